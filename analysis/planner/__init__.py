"""What a whole model needs of a cluster: layouts over tensor, pipeline and data parallelism, ranked, with reasons.

`rank.plan_layouts(request.make_request(model, node, num_gpus, phase="train"))` gives a `layout.Ranking`;
`memory.fewest_stages(model, node, tp)` the least pp that fits. Left out: interleaved stages, context and expert
parallelism, gradients and weights cut over replicas (ZeRO-2, ZeRO-3), offloading.
"""
