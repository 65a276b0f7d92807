"""Key payloads, and where key bytes must not appear."""
