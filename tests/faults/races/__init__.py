"""The races named in docs/pitfalls.md."""
