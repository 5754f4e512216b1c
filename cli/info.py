"""``octree info``: being written."""


def info() -> None:
    """Being written."""
