"""Tensor-parallel layers on torch.distributed, in Megatron's vocabulary.

`mesh` is who a rank computes with, `collectives` what it may say, `regions` the collectives as autograd sees them,
`linear` and `attention` the layers, `block` the attention block with its norm and residual, `weights` the full
weights and one rank's shard of them, `reference` the unsharded oracle. A layer takes sizes and a mesh, never a
configuration, and is given a `Wire` at every call: which collectives carry its data, and who watches its parts.
"""
