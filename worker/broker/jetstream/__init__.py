"""The streams: their configuration, the consumer of the events stream, and the site's id in its metadata."""
