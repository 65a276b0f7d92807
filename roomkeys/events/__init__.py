"""Events: bodies, decoding, stream positions; without database or broker. A new kind of event begins here."""
