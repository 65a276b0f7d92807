"""Pure functions from events and a snapshot to data: no clock, server or random source may be read here."""
