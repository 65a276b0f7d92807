"""What the subcommands share: connections, output, and running until Ctrl-C."""
