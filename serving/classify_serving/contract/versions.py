"""Which version of a model a folder offers; needs no TensorFlow, so a wrong path is told at once."""

from pathlib import Path
from typing import Final

SAVED_MODEL: Final = "saved_model.pb"


class ServableError(Exception):
    """A folder that holds no model that can be served; one sentence, naming the folder."""


def find_version(folder: Path) -> Path:
    """The version to serve: `folder` itself if it is a version, else the highest-numbered one in it.

    Raises:
        ServableError: there is no such folder or no version in it.
    """
    if not folder.is_dir():
        raise ServableError(f"no model folder {folder}: train one with classify-train export, or correct the path")
    if folder.name.isdecimal() and (folder / SAVED_MODEL).is_file():
        return folder
    versions = _versions_in(folder)
    if versions:
        return max(versions, key=lambda version: int(version.name))
    nested = sorted(child for child in folder.iterdir() if child.is_dir() and _versions_in(child))
    hint = f"did you mean {nested[0]}?" if nested else "train one with classify-train export"
    raise ServableError(f"no model version (a numbered folder with a {SAVED_MODEL}) in {folder}: {hint}")


def _versions_in(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.name.isdecimal() and (child / SAVED_MODEL).is_file()]
