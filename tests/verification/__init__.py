"""What makes change safe: a model of the protocol, an oracle that judges runs, and mutations it must catch."""
