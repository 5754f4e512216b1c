"""``python -m octree.cli``: the same as the ``octree`` command."""

from octree.cli import main

main()
