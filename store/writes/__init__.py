"""What the worker writes: apply, settle and the outbox, each in one fenced transaction."""
