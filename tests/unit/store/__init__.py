"""Documents and queries without a server."""
