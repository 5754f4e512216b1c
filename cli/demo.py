"""``octree demo``: being written."""


def demo() -> None:
    """Being written."""
