"""Ops become seconds: `theory` is the contract and the sum over a plan; `article`, `datasheet` and `calibrated` are
the theories, `curves` the forms that a calibration fits.
`grid` estimates the families of a grid of workloads, each at all of its points at once.
"""
