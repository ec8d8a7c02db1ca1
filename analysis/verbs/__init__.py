"""The verbs of `python -m analysis`, a file each: its flags, and what it prints."""
