"""Frames to files that appear complete or not at all.

files.py       names from a pattern; a file under another name until it is whole
annotate.py    titles and lines over a finished frame
png.py         PNG, row by row
encode.py      which encoder a name asks for; encoding beside drawing
video.py       GIF and MP4
"""
