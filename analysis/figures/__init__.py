"""Frames as figures, each with the same in words."""
