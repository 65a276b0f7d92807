"""Membership events, from the stream to documents, notices and keys."""
