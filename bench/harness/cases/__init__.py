"""Cases and ops as layers on this rank: built, checked, watched, and as tasks to time."""
