"""The service `room-worker`: NATS, the loop of each partition, the key service and the command.

`app.py` builds everything and is the place to start reading. Imports point from `app` to `replica` to
`pipeline` to `broker`; only `cli` imports `app`.
"""
