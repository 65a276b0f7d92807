"""What goes over the wire: room keys, notices, results, and the key service's requests and replies.

Only encoding and decoding; nothing here sends anything.
"""
