"""What an event, a room, a key and a decision are: data and pure functions, without NATS and MongoDB.

`store` and `worker` import this package; it imports neither. Only `roomkeys.client`, the library for
subscribers, may use asyncio and NATS.
"""
