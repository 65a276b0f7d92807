"""The command `room-worker`: one file or folder for each subcommand. Nothing in the service imports it."""
