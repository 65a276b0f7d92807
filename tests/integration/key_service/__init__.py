"""The key service alone, and with a whole worker, on real servers."""
