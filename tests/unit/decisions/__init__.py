"""The decision core, held against examples and an independent model."""
