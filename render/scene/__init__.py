"""What is drawn together: layers, and the loader, atlas and canvas they share. Main thread.

scene.py       the scene: from a request to layers that are ready
layer.py       one layer of a view: its plan, its uploads, its cover
overview.py    the inset: one more layer
look.py contrast.py         colours and contrast limits of each part of a layer
"""
