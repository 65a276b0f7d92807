"""The command `room-worker`: a file or folder for each subcommand.

`main` collects the subcommands, `terminal` has what they share. The service itself imports nothing from here.
"""
