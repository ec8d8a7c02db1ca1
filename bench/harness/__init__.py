"""The machinery behind the entry points.

`cli` reads flags into a suite, `cases` joins plans to layers, `checks` compares them with the oracle, `clock` and
`measure` time them, `runner` runs a suite into a record file. `stats` and `records` load without torch.
"""
