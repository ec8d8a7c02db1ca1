"""The ranks of a run: how they start, meet, agree, share a clock, and end together."""
