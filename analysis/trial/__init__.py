"""Claims on trial: recomputed from their own inputs and from the right ones, measured, and judged."""
