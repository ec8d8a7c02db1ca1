"""A report: one self-contained page, its figures, and its tables as CSV."""
