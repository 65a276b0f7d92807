"""What the subcommands share: short-lived connections, output, and the life of the process."""
