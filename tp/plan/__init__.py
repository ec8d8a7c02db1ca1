"""What one rank computes and sends for a case, as an ordered list of ops with shapes, FLOPs and bytes.

`ops` says what an op is, `shards` what a rank holds and which degrees fit, `attention` lists the ops of the
attention block, `build` picks the list by block, `grid` spreads a plan over many workloads; `memory` and `footprint`
say what a rank holds. Nothing here knows how long anything takes.
"""
