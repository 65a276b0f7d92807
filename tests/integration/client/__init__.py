"""The client library and the examples, on real servers."""
