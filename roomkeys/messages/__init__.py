"""What goes over the wire: room keys, notices, results, and the key service's requests and replies.

Pure encoding and decoding. Nothing here sends anything.
"""
