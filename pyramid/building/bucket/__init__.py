"""DEST in object storage: no renaming, no locks; what appears, appears by one conditional write.

job.py         one run, from what it finds at DEST to the published metadata
lease.py       who may write
segments.py    what is done already, as objects that are each made once
"""
