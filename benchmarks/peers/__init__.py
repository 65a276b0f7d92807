"""Peers: separate processes that each do one step of the work in their own way, and report how long it took."""
