"""Everything that touches NATS: the connection and its barrier, the stream, the consumer, the fan-out."""
