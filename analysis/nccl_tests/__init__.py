"""The logs of nccl-tests and rccl-tests: text of every age and the JSON of `-J` become rows, rows become such text.

`streams` takes what launchers put around the lines off, `debug` what NCCL wrote between and inside them; `heading` and
`table` read the parts of a test, `text` and `report` a whole file; `check` holds every row against itself; `rows` says
what a row means; `write` renders a table. Left out: nccom-test, OSU, and the tests of NCCL 1, whose columns differ.
"""
