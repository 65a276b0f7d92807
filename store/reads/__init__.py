"""What the worker and the key service read, each in a constant number of queries. Nothing here writes."""
