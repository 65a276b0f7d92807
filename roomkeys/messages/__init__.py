"""What goes over the wire: room keys, notices, results, requests and replies. Nothing here sends anything."""
