"""Which ranks of a world of several nodes form a group: nodes hold equal runs of consecutive ranks, as torchrun's do.

A group lies evenly on its nodes, which are next to each other. On as few as hold it, it is what one runs in production;
on more it shows what the network costs.
"""


def spreads(size: int, *, world: int, on_node: int) -> tuple[int, ...]:
    """Over how many nodes groups of `size` can lie, ascending, with `on_node` ranks of the world on each."""
    num_nodes = world // on_node
    return tuple(nodes for nodes in range(1, num_nodes + 1) if _fits(size, nodes, on_node=on_node, num_nodes=num_nodes))


def groups(size: int, *, world: int, on_node: int, nodes: int) -> list[list[int]]:
    """The ranks of every group of `size` that lies over `nodes`, in the order of its first rank."""
    assert nodes in spreads(size, world=world, on_node=on_node), f"{size} ranks do not lie on {nodes} nodes"
    share = size // nodes
    found = [
        [(first + node) * on_node + slot * share + rank for node in range(nodes) for rank in range(share)]
        for first in range(0, world // on_node, nodes)
        for slot in range(on_node // share)
    ]
    return sorted(found)


def _fits(size: int, nodes: int, *, on_node: int, num_nodes: int) -> bool:
    """Whether the group divides over the nodes, its share divides a node, and the nodes divide the world."""
    return size % nodes == 0 and on_node % (size // nodes) == 0 and num_nodes % nodes == 0
