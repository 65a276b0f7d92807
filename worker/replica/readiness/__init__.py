"""Whether the replica can work, and whether its partitions move."""
