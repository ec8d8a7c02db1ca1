"""Two versions of one machine's times: what got slower or faster, and what could not be told."""
