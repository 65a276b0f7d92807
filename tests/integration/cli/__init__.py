"""The command and its servers."""
