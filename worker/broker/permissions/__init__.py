"""What the broker allows: the rights that the work needs, and what was denied."""
