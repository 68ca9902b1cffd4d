"""Images in object stores and on other machines, read through fsspec: `s3://bucket/folder`, `gs://bucket/1.jpg`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from classify_client.errors import InputError
from classify_client.inputs.archives import CONTENT_LIMIT, Member, Stamp
from classify_client.output_folder import are_results
from classify_serving.contract.images import ImageError, is_image_name
from classify_serving.contract.text import error_reason

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Each store has its own name for the tag or time that changes with the content; the first one present is used.
_TAGS: Final = ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "last_modified", "updated", "mtime", "created")


def remote_files(url: str, output: Path | str | None = None) -> Iterator[Member]:
    """Yield the images of a folder in an object store, sorted within each folder, files before folders.

    A URL with `*` is a pattern; the URL of a file gives that file, whatever its name is. Folders with the results of a
    run are left out.

    Args:
        url: of a folder, a pattern or a file.
        output: URL of a folder that is left out too; a local path leaves nothing out.

    Raises:
        InputError: fsspec or the package for this store is not installed, or the store refuses.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"{url} needs fsspec: pip install fsspec, and s3fs or gcsfs for s3:// or gs://") from error
    try:
        store, root = url_to_fs(url, use_listings_cache=False)
        root = root.rstrip("/")
        if "*" in root:
            folder = root.partition("*")[0].rpartition("/")[0]
            entries = _matching(store, root)
        elif store.isdir(root):
            folder, entries = root, _walk(store, root, output)
        else:
            folder, entries = root.rpartition("/")[0], iter([store.info(root)])
        for entry in entries:
            yield _member(store, entry, folder)
    except ImportError as error:
        raise InputError(f"{url}: {error}; if a package is missing, pip install it") from error
    except Exception as error:
        # Each store raises the exceptions of its own library: no credentials, no such bucket, no connection ...
        raise InputError(
            f"cannot list {url} ({error_reason(error)}): correct the URL, or set the credentials of its store"
        ) from error


def _matching(store: "AbstractFileSystem", pattern: str) -> Iterator[Mapping[str, Any]]:
    for entry in sorted(store.glob(pattern, detail=True).values(), key=_path):
        *folders, name = _path(entry).split("/")
        if entry["type"] != "directory" and is_image_name(name) and not any(part.startswith(".") for part in folders):
            yield entry


def _path(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).rstrip("/")


def _walk(store: "AbstractFileSystem", folder: str, output: Path | str | None) -> Iterator[Mapping[str, Any]]:
    entries = sorted(store.ls(folder, detail=True), key=_path)
    names = {_path(entry).rpartition("/")[2] for entry in entries}
    if store.unstrip_protocol(folder) == output or are_results(names.__contains__):
        return
    for entry in entries:
        if entry["type"] != "directory" and is_image_name(_path(entry).rpartition("/")[2]):
            yield entry
    for entry in entries:
        below = _path(entry)
        # Stores list the marker object of a folder among its files.
        if entry["type"] == "directory" and not below.rpartition("/")[2].startswith(".") and below != folder:
            yield from _walk(store, below, output)


def _member(store: "AbstractFileSystem", entry: Mapping[str, Any], folder: str) -> Member:
    path, size = _path(entry), entry.get("size")
    return Member(
        name=path.removeprefix(folder).strip("/"),
        root=folder.rpartition("/")[2],
        open=RemoteFile(store, path, size),
        stamp=Stamp(size, tag_of(entry)),
        container=store.unstrip_protocol(folder),
    )


def tag_of(entry: Mapping[str, Any]) -> str:
    """Tag or time of a file that changes with its content, from its entry in a listing; empty if there is none."""
    return next((str(entry[key]) for key in _TAGS if entry.get(key)), "").strip('"')


@dataclass(frozen=True)
class RemoteFile:
    """Opens a file in an object store.

    Attributes:
        store: the file system of fsspec.
        path: of the file there.
        size: in bytes; None if not known.
    """

    store: "AbstractFileSystem"
    path: str
    size: int | None

    def __call__(self) -> BinaryIO:
        """Read its content.

        Raises:
            ImageError: it cannot be read.
        """
        try:
            if self.size is not None and self.size <= CONTENT_LIMIT:
                # With a range, s3fs does not ask for the size first; an empty file has no range.
                return BytesIO(self.store.cat_file(self.path, start=0 if self.size else None))
            with self.store.open(self.path, "rb") as file:
                content = file.read(CONTENT_LIMIT + 1)
        except Exception as error:
            # As in `remote_files`; here only this file fails.
            raise ImageError(self.path, error_reason(error)) from error
        if len(content) > CONTENT_LIMIT:
            raise ImageError(self.path, f"more than {CONTENT_LIMIT // 1024**2} MiB")
        return BytesIO(content)

    @property
    def url(self) -> str | None:
        """By which another process finds the file, with the credentials of its machine; None if no URL says it all."""
        url: str = self.store.unstrip_protocol(self.path)
        return url if remote_file(url, self.size) == self else None


def remote_file(url: str, size: int | None) -> RemoteFile:
    """The file that a URL names.

    Raises:
        ImportError: fsspec or the package for this store is not installed.
    """
    from fsspec.core import url_to_fs

    name = ""
    if "::" in url:
        # fsspec would take what follows for another URL.
        folder = url.partition("::")[0].rpartition("/")[0]
        url, name = folder, url.removeprefix(folder)
    # fsspec gives the same object for all files of a store.
    store, path = url_to_fs(url, use_listings_cache=False)
    return RemoteFile(store, path + name, size)
