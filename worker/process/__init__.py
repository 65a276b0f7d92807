"""The processes of `room-worker run`: their start, the supervisor of the event worker and the key service, their end.

`early` is what a process does before its large imports, `shutdown` the time that its end may take. `supervisor` starts
the halves, restarts and stops them, and serves HTTP for both. `half` is one of them as the supervisor sees it,
`channel` the supervisor as a half sees it, `merging` joins their metrics. The supervisor imports neither a driver nor a
client, so it stays small. (docs/adr/0015-two-processes.md)
"""
