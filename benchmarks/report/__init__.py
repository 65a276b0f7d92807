"""The output: tables, targets and plots."""
