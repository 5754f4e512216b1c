"""``octree doctor``: being written."""


def doctor() -> None:
    """Being written."""
