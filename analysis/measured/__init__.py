"""Ops with the seconds that they took alone, from records and from published tables."""
