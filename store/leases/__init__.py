"""Which replica owns which partition, and how far each partition has come."""
