"""Handling of what we do not trust: text of others, and our own secrets."""
