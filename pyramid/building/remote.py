"""What a worker in another process does with a group of tasks."""

from __future__ import annotations

import functools

from octree.pyramid.building.executors import Group
from octree.pyramid.building.task import Recipe, TaskResult, TaskRunner
from octree.pyramid.errors import OctreeError
from octree.pyramid.memory import use_one_heap


@functools.lru_cache(maxsize=4)
def _runner_of(recipe: Recipe) -> TaskRunner:
    # dask starts its workers with an allocator that gives every block back to the system at once: they come again as zeroed
    # pages, which took as long as all the rest of a build (260,000 page faults for 16384 x 16384 uint16, 1,600 so)
    use_one_heap()
    return recipe.make_runner()


def run_group(recipe: Recipe, group: Group) -> list[TaskResult] | OctreeError:
    """A failure of the build travels as a value: retrying it would not help."""
    try:
        return _runner_of(recipe).run(group)
    except OctreeError as error:
        return error
