"""Estimates of what was not measured: single cases, grids, and layers that others published."""
