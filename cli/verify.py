"""``octree verify``: being written."""


def verify() -> None:
    """Being written."""
