"""Find the numbered version folders of a model, `models/<name>/<version>/`, without TensorFlow."""

from pathlib import Path
from typing import Final

SAVED_MODEL: Final = "saved_model.pb"


class ServableError(Exception):
    """A folder has no model that can be served; the message names the folder and what to do."""


def is_version(folder: Path) -> bool:
    """Whether a folder has the name of a version: a number."""
    return folder.name.isdecimal()


def version_folders(model: Path) -> list[Path]:
    """The numbered folders of a model, the highest number first; empty if `model` does not exist."""
    numbered = [path for path in model.glob("*") if is_version(path) and path.is_dir()]
    return sorted(numbered, key=lambda path: int(path.name), reverse=True)


def newest_version(model: Path) -> int:
    """The highest version number in use; 0 if there is none."""
    return max((int(path.name) for path in version_folders(model)), default=0)


def find_version(folder: Path) -> Path:
    """The folder of the version to serve: `folder` itself if it is a version, otherwise its highest version.

    Raises:
        ServableError: the folder does not exist or has no version.
    """
    if not folder.is_dir():
        raise ServableError(f"no model folder {folder}: train one with classify-train train, or correct the path")
    if is_servable_version(folder):
        return folder
    if versions := servable_versions(folder):
        return next(iter(versions.values()))
    nested = sorted(child for child in folder.iterdir() if child.is_dir() and servable_versions(child))
    hint = f"did you mean {nested[0]}?" if nested else "train one with classify-train train"
    raise ServableError(f"no model version (a numbered folder with a {SAVED_MODEL}) in {folder}: {hint}")


def servable_versions(model: Path) -> dict[int, Path]:
    """The folders of a model's complete versions by number, the highest first; empty if there are none."""
    return {int(path.name): path for path in version_folders(model) if is_servable_version(path)}


def is_servable_version(folder: Path) -> bool:
    """Whether a folder is a complete version: its name is a number, and it contains a SavedModel."""
    return is_version(folder) and (folder / SAVED_MODEL).is_file()
