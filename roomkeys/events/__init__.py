"""What producers ask for: JSON bodies, the events decoded from them, and positions in the stream.

Nothing here uses a database or a broker. To add a kind of event, begin here.
"""
