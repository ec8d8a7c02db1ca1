"""Frames as rows of text for people: rounded, with units, marks and notes."""
