"""Logs, metrics and health: what operators see. Nothing here knows a broker or a database."""
