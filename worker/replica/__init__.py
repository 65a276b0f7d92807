"""What one replica owns: its share of the partitions, each partition's lease, and the feed of events for them."""
