"""The distributions that `make dist` builds."""
