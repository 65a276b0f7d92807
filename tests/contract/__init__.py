"""What the store must do over every driver: one body of tests, run once per driver."""
