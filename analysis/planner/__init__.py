"""What a whole model needs of a cluster: layouts over tensor, pipeline and data parallelism, ranked, with reasons."""
