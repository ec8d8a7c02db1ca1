"""What is benchmarked, and its theory: descriptions, plans, costs and the tensor-parallel layers."""
