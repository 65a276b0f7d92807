"""Apply, settle, outbox: each a transaction that begins with the fence and decides nothing."""
