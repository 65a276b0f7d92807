"""What producers ask for: the JSON bodies, the events decoded from them, and their position in the stream.

Nothing here knows a database or a broker. A new kind of event begins here.
"""
