"""One build: from a source and options to a pyramid on disk.

The way of a build:  options → plan → (read → downsample → write) for each task → metadata

builder.py     ``build`` and ``plan_build``, the shell; work.py  what every run does, wherever DEST is
job.py         one run to a folder, from beginning to end; bucket/   the same in object storage
option_table.py             the options of a build, each declared once
options.py     the same as values
plan.py        shape and options → levels, write units, tasks, files, bytes, memory (pure); planning/ its parts
task.py        one task: read, reduce, write every level that fits
windows.py     display windows for the metadata, from a coarse level
schedulers.py  which executor is meant; executors.py   tasks in a bounded window: serial, threads
processes.py   the same in processes of this machine; cluster.py   on dask.distributed
journal.py     what is done already; lock.py   who may write; archive.py      DEST that is an archive
destination.py   what lies at DEST
parts.py       a share of a build by itself, as job arrays have it, and the finish
found.py       which of the journal's records --resume may believe
replaceable.py what ``--overwrite`` may take the place of
"""
