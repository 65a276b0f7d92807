"""Everything that touches NATS: the connection and its barrier, the stream, the fan-out, the producer."""
