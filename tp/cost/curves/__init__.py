"""The forms that a calibration fits, a file each: what they say of an op, and how far they may be trusted.

Ops may hold arrays of sizes; then seconds are arrays too.
"""
