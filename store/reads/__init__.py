"""What the worker and the key service read. Nothing here may write.

The number of queries does not depend on how many events, rooms or requests are read for at once. A partition reads
in the session of its lease, so that it sees what it wrote before.
"""
