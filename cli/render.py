"""``octree render``: being written."""


def render() -> None:
    """Being written."""
