"""Start, reading, recovery reads and costs."""
