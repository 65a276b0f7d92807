"""Peers: processes of their own that each do one part of the work in their own way, and say how long it took."""
