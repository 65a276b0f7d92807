"""Payloads, frames, notices, requests and replies."""
