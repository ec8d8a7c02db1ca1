"""Timing: clocks, rounds, samples, and what runs beside."""
