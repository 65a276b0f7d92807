"""The worker without a server."""
