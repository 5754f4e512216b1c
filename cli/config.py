"""``octree config``: being written."""


def config() -> None:
    """Being written."""
