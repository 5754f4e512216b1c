"""``octree check``: being written."""


def check() -> None:
    """Being written."""
