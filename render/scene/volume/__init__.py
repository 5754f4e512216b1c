"""Layers of volumes. Main thread.

placing.py     planes among them: where images without z lie (pure)
around.py      what all layers of a frame share: the world they are seen in, what of it is shown (pure)
layer.py       one of them: its plan, its bricks, the samples of its rays
"""
