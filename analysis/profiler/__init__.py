"""Reads traces of torch's profiler: what a step computes, sends, hides and waits for, beside the estimate.

`json_stream` reads a trace event by event, `read` keeps what matters of it and says whose it is; `kernels` and
`operators` know names, `activity` makes of a trace what ran on its devices (`host` where it is a CPU's); `intervals` is
the arithmetic, `steps` and `collectives` its result a step and a collective, `compare` the estimate beside it, `show`
and `table` what people and files are given.

Left out: memory, host stacks, what an operator launched which kernel. A profiler slows what it watches; the times are
those of the watched step.
"""
