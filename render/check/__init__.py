"""Rendered-frame regression: render the cases of a suite, compare with baselines, say what changed.

option_table.py             the options of ``octree check``
spec.py        the suite file → frozen cases (strict)
names.py       which texts from files may name a file
folders.py     writing in a folder held open, never through a link; removing frames of ours
suite.py       run a suite: render, judge, stage, report
record.py      what is kept of a rendered case: frames, tile sets, coverage
baseline.py    baselines on disk, looked up by renderer, family, default; stage and accept
compare.py     two frames → numbers, and pictures of the difference (pure)
spread.py      cases in several processes
judge.py       a case and its baseline → a verdict (pure)
pictures.py    pictures of report.html, within so many bytes
reports.py     report.json, junit.xml, summary.md, report.html
plugin.py      the pytest plugin: ``octree_check``
"""
