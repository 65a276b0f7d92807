"""Real servers on this machine, for `demo`, `dev` and the tests. The service itself imports nothing from here."""
