"""What is made of the measurements: tables, targets and plots."""
