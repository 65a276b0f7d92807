"""What a room key, an event, a payload and a decision *is*.

This package knows neither NATS nor MongoDB: everything in it is data and pure functions, so that the rules
can be read and tested without a server. `store` and `worker` import it; it imports neither.

The subscriber's library is here as well: `client.py`, the one file that talks to NATS, on pieces of its own,
some of which wait for something but none of which knows what.
"""
