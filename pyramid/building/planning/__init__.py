"""What goes into the plan of a build, each part for itself. Pure; the words are those of ``building/plan.py``.

request.py     what a plan depends on, and the chunks that follow from it
layout.py      shape and options → write units, task blocks, rounds, for a wanted size of block
budget.py      how much memory a group of tasks holds, and how many tasks read together
notes.py       what a plan says for people, and what cannot be
"""
