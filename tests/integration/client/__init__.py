"""The subscriber's library and the examples."""
