"""Concurrent requests are merged within TensorFlow Serving's limits; beyond them, its status codes are returned."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from saved_models import ask_for, save_model
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.server.batching import Batching, read_batching
from classify_serving.server.errors import BatchingError
from classify_serving.server.models.registry import Models
from classify_serving.server.servable import load_servable
from classify_serving.server.server import ModelServer

BATCHING = Batching(max_batch_size=8, batch_timeout_micros=200_000, num_batch_threads=1)


def sizes(folder: Path, batching: Batching, requests: list[list[float]]) -> list[int | grpc.StatusCode]:
    """Send all requests at once; returns for each the size of the batch that it ran in, or its error status."""
    server = ModelServer(Models(load_servable(folder, batching=batching)), threads=len(requests))
    with server, grpc.insecure_channel(server.address) as channel:
        predict = PredictionServiceStub(channel).Predict
        calls = [predict.future(ask_for(values, folder.name), timeout=60) for values in requests]
        found: list[int | grpc.StatusCode] = []
        for values, call in zip(requests, calls, strict=True):
            try:
                outputs = call.result().outputs
            except grpc.RpcError as error:
                found.append(error.code())
                continue
            assert tf.make_ndarray(outputs["double"]).tolist() == [2 * value for value in values], (
                "each request gets its own answers"
            )
            found.append(int(tf.make_ndarray(outputs["batch"])[0]))
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "m", 1).parent


def test_concurrent_requests_are_merged(folder: Path) -> None:
    together = sizes(folder, BATCHING, [[float(number)] for number in range(8)])
    assert max(size for size in together if isinstance(size, int)) > 1
    assert all(isinstance(size, int) and size <= 8 for size in together)


def test_batches_are_padded_to_allowed_sizes(folder: Path) -> None:
    assert sizes(folder, replace(BATCHING, allowed_batch_sizes=(4, 8)), [[1.0, 2.0, 3.0]]) == [4]


def test_a_request_larger_than_a_batch_is_refused(folder: Path) -> None:
    assert sizes(folder, BATCHING, [[1.0] * 9, [1.0] * 8]) == [grpc.StatusCode.INVALID_ARGUMENT, 8]


def test_a_full_queue_answers_unavailable(tmp_path: Path) -> None:
    slow = save_model(tmp_path / "slow", 1, wait=1.0).parent
    tight = Batching(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    answers = sizes(slow, tight, [[float(number)] for number in range(12)])
    assert grpc.StatusCode.UNAVAILABLE in answers
    assert 1 in answers
    assert set(answers) <= {1, grpc.StatusCode.UNAVAILABLE}


def test_parameters_are_read_in_tensorflow_servings_format(tmp_path: Path) -> None:
    path = tmp_path / "batching.txt"
    path.write_text(
        "# a comment\nmax_batch_size { value: 64 }\nbatch_timeout_micros { value: 500 }\n"
        "allowed_batch_sizes: 32\nallowed_batch_sizes: 64\n"
    )
    assert read_batching(path) == Batching(max_batch_size=64, batch_timeout_micros=500, allowed_batch_sizes=(32, 64))


@pytest.mark.parametrize(
    "content",
    [
        "max_batchsize { value: 1 }",
        "max_batch_size: 1",
        "max_batch_size { value: 9 } allowed_batch_sizes: 8",
        "enable_large_batch_splitting { value: true }",
    ],
)
def test_unknown_and_invalid_parameters_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "batching.txt").write_text(content)
    with pytest.raises(BatchingError, match=r"batching\.txt"):
        read_batching(tmp_path / "batching.txt")


def test_each_thread_gets_the_answers_to_its_own_request(folder: Path) -> None:
    predict = load_servable(
        folder, batching=replace(BATCHING, batch_timeout_micros=1000, max_enqueued_batches=100)
    ).predict

    def ask(number: int) -> bool:
        values = np.arange(number % 8 + 1, dtype=np.float32) + number
        return bool((predict("serving_default", {"x": values})["double"] == 2 * values).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))
