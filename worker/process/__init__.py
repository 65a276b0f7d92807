"""The supervisor of `room-worker run`: two processes, the event worker and the key service, and what they report.

`supervisor` starts the halves, restarts and stops them, and serves HTTP for both. `half` is one of them as the
supervisor sees it, `channel` the supervisor as a half sees it, `merging` joins their metrics. The supervisor imports
neither a driver nor a client, so it stays small. (docs/adr/0015-two-processes.md)
"""
