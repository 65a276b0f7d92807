"""The subscriber's library without a server."""
