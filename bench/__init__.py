"""The torchrun entry points, a screenful each; the machinery is in bench.harness."""
