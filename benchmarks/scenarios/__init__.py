"""The scenarios: one file per group of measurements."""
