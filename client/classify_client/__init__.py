"""Classify folders of images against a model server, and see what it got wrong."""

__version__ = "0.1.0"
