"""Whatever a server sends, the client ends with rows or one sentence, and needs little memory."""

import resource
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from client_support import Start
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from support import BrightnessModel, make_metadata, write_picture

from classify_client.inference.codec import PREDICT, CodecError
from classify_client.inference.validation import AnswerError, check_predictions
from classify_serving.contract import model as contract
from classify_serving.contract.wire_pb2 import DT_FLOAT, DT_STRING, PredictResponse, TensorProto, TensorShapeProto


class LyingModel(BrightnessModel):
    """Replaces one output of its answers."""

    def __init__(self, name: str, value: NDArray[Any]) -> None:
        super().__init__(make_metadata())
        self.name, self.value = name, value

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        answer = super().predict(signature, inputs)
        if self.name in answer:
            answer[self.name] = np.repeat(self.value, len(answer[self.name]), axis=0)
        return answer


PROBABILITIES = {
    "NaN": [np.nan, 0.2, 0.1],
    "infinite": [np.inf, 0.2, 0.1],
    "negative": [0.7, 0.2, -0.1],
    "ascending": [0.1, 0.2, 0.7],
    "too large": [0.9, 0.8, 0.7],
}


@pytest.mark.parametrize("values", PROBABILITIES.values(), ids=PROBABILITIES)
def test_wrong_probabilities_become_rows_with_an_error(start: Start, values: list[float]) -> None:
    client = start(LyingModel(contract.TOP_PROBABILITIES, np.array([values], np.float32)))
    write_picture(client.images / "black/1.png", 5)
    for _ in range(2):
        result = client.run("--review-below", "0.9")
        assert result.exit_code == 1, result.output
        (row,) = client.rows()
        assert "probabilities that are not between 0 and 1" in row["error"]


def test_integer_labels_become_rows_with_an_error(start: Start) -> None:
    client = start(LyingModel(contract.TOP_LABELS, np.array([[1, 2, 3]])))
    write_picture(client.images / "black/1.png", 5)
    assert client.run().exit_code == 1
    assert "labels of type int64" in client.rows()[0]["error"]


@pytest.mark.parametrize(
    "changes",
    [{"image_size": -5}, {"image_size": 100_000}, {"class_names": ()}, {"class_names": ("x", "x")}],
)
def test_metadata_that_no_model_has_ends_the_run_with_one_sentence(start: Start, changes: dict[str, Any]) -> None:
    client = start(BrightnessModel(make_metadata(**changes)))
    write_picture(client.images / "black/1.png", 5)
    result = client.run()
    assert result.exit_code == 3, result.output
    (line,) = result.stderr.splitlines()
    assert "has metadata that cannot be used" in line


def test_an_answer_that_is_too_large_is_not_received(start: Start) -> None:
    client = start(LyingModel(contract.JSON, np.array([b"x" * (100 << 20)], np.object_)))
    write_picture(client.images / "black/1.png", 5)
    result = client.run()
    assert result.exit_code == 3
    assert "larger than max" in result.stderr


@given(st.lists(st.integers(-(2**62), 2**62), max_size=10), st.sampled_from([DT_FLOAT, DT_STRING]))
def test_no_shape_needs_much_memory(sizes: list[int], dtype: Any) -> None:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
    tensor = TensorProto(dtype=dtype, tensor_shape=shape, float_val=[1.0], string_val=[b"x"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(CodecError):
        PREDICT.decode(PredictResponse(outputs={"x": tensor}).SerializeToString(), ["x"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_ranked_probabilities_are_accepted_whatever_their_rounding() -> None:
    labels = np.array([[b"a", b"b"]], np.object_)
    for values in ([1.0, 0.0], [0.5, 0.5], [0.5004, 0.5]):
        for dtype in (np.float16, np.float32, np.float64):
            check_predictions(labels, np.array([values], dtype), 1)
    with pytest.raises(AnswerError, match="sum of at most 1"):
        check_predictions(labels, np.array([[0.7, 0.4]]), 1)
    with pytest.raises(AnswerError, match="1 images"):
        check_predictions(labels, np.zeros((2, 2)), 1)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=300))
def test_probabilities_of_a_server_that_computes_in_bfloat16_are_accepted(logits: list[float]) -> None:
    exponentials = np.exp(np.array(logits) - max(logits)).astype(bfloat16)
    probabilities = (exponentials / exponentials.sum(dtype=np.float64)).astype(bfloat16).astype(np.float32)
    top = np.sort(probabilities)[::-1][:5]
    check_predictions(np.array([[b"a"] * len(top)], np.object_), top[None], 1)
