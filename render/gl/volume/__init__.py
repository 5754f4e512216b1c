"""Volumes in OpenGL: bricks in 3-D textures, and rays through them. Main thread only."""
