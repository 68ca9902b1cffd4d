"""Metadata is read back unchanged; unknown fields are ignored, newer schemas refused."""

import json

import pytest
from support import make_metadata

from classify_serving.contract.model import ContractError, ModelMetadata


def test_metadata_is_read_back_unchanged() -> None:
    metadata = make_metadata(class_names=("ä", "b/c"), merges={"deer": "others"})
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_unknown_fields_are_ignored() -> None:
    values = json.loads(make_metadata().to_json()) | {"later": 1}
    assert ModelMetadata.from_json(json.dumps(values).encode()) == make_metadata()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema_version": "one"}'])
def test_invalid_metadata_is_refused(content: bytes) -> None:
    with pytest.raises(ContractError):
        ModelMetadata.from_json(content)


def test_a_newer_schema_asks_for_an_upgrade() -> None:
    with pytest.raises(ContractError, match="upgrade"):
        ModelMetadata.from_json(make_metadata(schema_version=2).to_json())


def test_true_class_follows_merges() -> None:
    metadata = make_metadata(class_names=("cat", "others"), merges={"deer": "others"})
    assert [metadata.true_class(label) for label in ("cat", "deer", "others", "images")] == [
        "cat",
        "others",
        "others",
        None,
    ]
