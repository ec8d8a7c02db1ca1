"""A run from its flags to its record and its console."""
