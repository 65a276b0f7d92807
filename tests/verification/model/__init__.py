"""The model checker of the protocol."""
