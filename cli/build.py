"""``octree build``: being written."""


def build() -> None:
    """Being written."""
