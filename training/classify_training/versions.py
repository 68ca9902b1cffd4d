"""The numbers of a model's versions; needs no TensorFlow, so asking is quick."""

from pathlib import Path


def newest_version(folder: Path) -> int:
    """The highest version in a model's folder; 0 if there is none."""
    return max((int(path.name) for path in folder.glob("*") if path.name.isdecimal()), default=0)
