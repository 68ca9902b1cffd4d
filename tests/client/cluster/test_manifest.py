"""What other machines are told about the images of a run."""

import os
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from pyarrow import parquet
from support import write_picture

from classify_client.cluster.machines.checks import check_machine, is_readable
from classify_client.cluster.storage.manifest import ManifestWriter, find_images, first_image, read_manifest
from classify_client.errors import InputError
from classify_client.inputs.selection import Selection
from classify_client.inputs.source import Source
from classify_client.inputs.sources import list_sources


def write(folder: Path, *inputs: str) -> list[Source]:
    """Write the manifest of some inputs; gives its images as they were listed."""
    sources = list(list_sources(Selection(inputs)))
    writer = ManifestWriter(folder)
    for position, source in enumerate(sources):
        writer.add(position, source)
    writer.close()
    return sources


def test_images_are_the_same_for_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "images" / "black" / "1.png", 5)
    os.rename(write_picture(tmp_path / "2.png", 5), os.fsencode(tmp_path / "images" / "black") + b"/\xff 2.png")
    monkeypatch.chdir(tmp_path)
    listed = write(tmp_path / "manifest", "images", f"file://{tmp_path}/images/black/1.png", "images/black")
    (file,) = (tmp_path / "manifest").iterdir()
    assert is_readable(parquet.read_table(file).slice(0, 1))
    monkeypatch.chdir("/")
    read = [source for _, source in read_manifest(parquet.read_table(file))]
    assert len(read) == len(listed) == 5
    for here, there in zip(listed, read, strict=True):
        assert (here.name, here.folders, here.stamp) == (there.name, there.folders, there.stamp)
        assert there.decode(8, "stretch").shape == (8, 8, 3)
        if not isinstance(here.original, Path):
            assert here.original == there.original
    found = find_images([tmp_path / "manifest"], [3, 1])
    assert {at: source.name for at, source in found.items()} == {at: listed[at].name for at in (1, 3)}


def test_archives_are_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(write_picture(tmp_path / "1.png", 5), "black/1.png")
    with pytest.raises(InputError, match="in an archive, which the machines of a cluster cannot share: unpack it"):
        write(tmp_path / "manifest", str(tmp_path / "images.zip"))


def test_a_machine_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from classify_client import __version__

    marker = tmp_path / "out" / ".shared" / "token"
    marker.parent.mkdir(parents=True)
    marker.write_text("token")
    assert not check_machine(__version__, marker, "token", None, None)
    assert "install the same version" in check_machine("0.1", marker, "token", None, None)
    assert f"{tmp_path}/out (another folder" in check_machine(__version__, marker, "other", None, None)
    assert "that all machines share" in check_machine(__version__, tmp_path / "no" / "x" / "token", "token", None, None)
    assert "no model folder" in check_machine(__version__, marker, "token", tmp_path / "none", None)
    write(tmp_path / "manifest", str(write_picture(tmp_path / "1.png", 5)))
    image = first_image(tmp_path / "manifest")
    assert not check_machine(__version__, marker, "token", None, image)
    (tmp_path / "1.png").unlink()
    assert f"cannot read {tmp_path}/1.png" in check_machine(__version__, marker, "token", None, image)
    write(tmp_path / "remote", f"file://{write_picture(tmp_path / '2.png', 5)}")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    image = first_image(tmp_path / "remote")
    assert "install the package for this store there" in check_machine(__version__, marker, "token", None, image)
