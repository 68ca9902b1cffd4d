"""A new version of the model replaces the old one on the server during a run."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from client_support import Client
from numpy.typing import NDArray
from server_support import EmbeddingModel, servable_of, start_server
from support import BrightnessModel, make_metadata, write_picture

from classify_serving.contract import model as contract
from classify_serving.server.models.registry import Models
from classify_serving.server.server import ModelServer


class ReplacedModel(BrightnessModel):
    """Version 1; after this number of batches, its server switches to the successor."""

    def __init__(self, successor: BrightnessModel, batches: int) -> None:
        super().__init__(make_metadata())
        self.successor, self.batches = successor, batches
        self.server: ModelServer | None = None

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        answer = super().predict(signature, inputs)
        if signature != contract.METADATA:
            self.batches -= 1
            if self.batches == 0 and self.server:
                self.server.models.current = Models(servable_of(self.successor)).current
        return answer


class StrictModel(BrightnessModel):
    """Refuses images of another size, as a graph with a fixed input shape does."""

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.METADATA and inputs[contract.IMAGES].shape[1] != self.metadata.image_size:
            import tensorflow as tf

            raise tf.errors.InvalidArgumentError(None, None, "incompatible shapes")
        return super().predict(signature, inputs)


@pytest.mark.parametrize(
    "changes",
    [{}, {"image_size": 16}, {"resize": "pad"}, {"image_size": 4, "class_names": ("grey", "white", "x")}],
)
def test_the_run_continues_with_the_new_version(changes: dict[str, Any], tmp_path: Path) -> None:
    for index in range(20):
        write_picture(tmp_path / f"images/white/{index:02}.png", 250)
    write_picture(tmp_path / "images/x/0.png", 250)
    second = StrictModel(make_metadata(model_version=2, created="2026-02-02T00:00:00+00:00", **changes))
    first = ReplacedModel(second, batches=3)
    with start_server(first) as server:
        first.server = server
        client = Client(first, server.address, tmp_path / "images", tmp_path / "out")
        result = client.run("--batch-size", "2", "--in-flight", "1")
        assert result.exit_code == 0, result.output
        rows = client.rows()
        assert [row["model_version"] for row in rows] == ["1"] * 6 + ["2"] * 15
        assert rows[-1]["model_created"] == "2026-02-02T00:00:00+00:00"
        assert rows[-1]["true_class"] == ("x" if "class_names" in changes else "")
        assert client.summary()["model"]["versions"] == ["1", "2"]
        assert result.stderr.splitlines() == ["The model changed from version 1 to 2"]
        # The first batch that version 2 received was decoded for version 1; with another `resize` it is sent twice.
        images_sent = second.images
        assert images_sent == 15 + 2 * ("resize" in changes)
        assert client.run().exit_code == 0
        assert {row["model_version"] for row in client.rows()} == {"2"}
        assert second.images == images_sent + 6, "only the images that version 1 had classified"


def test_images_are_decoded_again_for_the_version_that_answers_after_the_run(tmp_path: Path) -> None:
    for index in range(4):
        write_picture(tmp_path / f"images/white/{index}.png", 250)
    second = EmbeddingModel(model_version=2, image_size=16)
    first = ReplacedModel(second, batches=1)
    with start_server(first) as server:

        def switch() -> None:
            first.asked.wait(30)
            server.models.current = Models(second.servable()).current

        thread = threading.Thread(target=switch)
        thread.start()
        client = Client(first, server.address, tmp_path / "images", tmp_path / "out")
        result = client.run("--batch-size", "1", "--in-flight", "1", "--embed")
        thread.join()
        assert result.exit_code == 0, result.output
        assert {row["model_version"] for row in client.rows()} <= {"1", "2"}
        assert set(second.sizes) == {16}
