"""Multiscale images on disk."""
