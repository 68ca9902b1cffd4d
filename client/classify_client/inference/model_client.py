"""gRPC client for one served model: metadata, predictions, embeddings and heat maps."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import ServiceError
from classify_client.inference.codec import PREDICT, Answer, Codec, CodecError, RequestedModel
from classify_client.inference.connection import Connection
from classify_client.inference.exceptions import ModelChanged, RequestRefused
from classify_client.inference.load_balancer import LoadBalancer, RetryTimeout
from classify_client.inference.retry_policy import RetryAction
from classify_client.inference.validation import AnswerError, check_metadata, check_predictions
from classify_serving.contract import model as contract
from classify_serving.contract.model import ContractError, ModelMetadata

_LARGEST_REQUEST: Final = 1 << 30
"""Bytes; protobuf cannot write a message of 2 GiB."""
_MAX_REFUSED: Final = 64
"""Images that are refused before the run ends, if none was answered."""
_METADATA_ATTEMPTS: Final = 5
"""How often several servers are asked for the version that one of them answered with."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one image.

    Attributes:
        top: (class, probability in 0-1), best first; empty if there is no answer.
        version: of the model that answered.
        error: why there is no answer; else empty.
        model: the metadata of that version.
    """

    top: tuple[tuple[str, float], ...] = ()
    version: int | None = None
    error: str = ""
    model: ModelMetadata | None = None


class ModelClient:
    """One model on one or several servers; thread-safe, and a context manager that closes the connections.

    Args:
        connection: the servers.
        model: the model there; a name stands for its newest version.
        retry_timeout: how long to keep trying without an answer.
        timeout: deadline of one attempt of a request in seconds.
        codec: the protocol.

    Raises:
        SettingsError: the connection's settings cannot be used.
    """

    def __init__(
        self,
        connection: Connection,
        model: RequestedModel | str,
        retry_timeout: RetryTimeout | None = None,
        timeout: float = 60.0,
        codec: Codec = PREDICT,
    ) -> None:
        self.model = RequestedModel(model) if isinstance(model, str) else model
        self._codec = codec
        self._balancer = LoadBalancer(connection, codec.method, retry_timeout or RetryTimeout(), timeout)
        self.servers = len(connection.servers)
        self.largest_batch: int | None = None
        self.finish, self.close = self._balancer.finish, self._balancer.close
        self._lock = threading.Lock()
        self._models: dict[int, ModelMetadata] = {}
        self._current: ModelMetadata | None = None
        self._refused, self._has_answered = 0, False

    @property
    def throttled(self) -> int:
        """How often a server asked for fewer requests at once."""
        return self._balancer.throttled

    @property
    def current(self) -> ModelMetadata:
        """Metadata of the version that answers now; requested the first time only."""
        return self._current or self.metadata()

    def metadata(self) -> ModelMetadata:
        """Request the model's metadata; `model_version` is the version it is served under.

        Raises:
            ServiceError: no server, no such model, or a model without metadata.
        """
        where = f"the model {self.model} at {self._balancer.addresses}"
        try:
            content = {contract.REQUEST: np.array([b""], dtype=np.object_)}
            answer = self._request(contract.METADATA, content, contract.JSON)
            metadata = ModelMetadata.from_json(answer.outputs[contract.JSON].ravel()[0])
            check_metadata(metadata)
        except RequestRefused as refusal:
            raise ServiceError(f"{where} has no metadata ({refusal}): export it with classify-train") from refusal
        except (ContractError, CodecError, IndexError, TypeError) as error:
            raise ServiceError(
                f"{where} has metadata that cannot be used ({error}): export it with classify-train"
            ) from error
        return self._remember(replace(metadata, model_version=answer.version or metadata.model_version))

    def _remember(self, metadata: ModelMetadata) -> ModelMetadata:
        with self._lock:
            earlier, version = self._current, metadata.model_version
            if earlier and version not in self._models:
                log.warning("The model changed from version %d to %d", earlier.model_version, version)
            self._current = self._models[version] = metadata
        return metadata

    def _metadata_of(self, version: int) -> ModelMetadata:
        """The metadata of a version that answered; of the current one, if that version is gone already."""
        for _ in range(_METADATA_ATTEMPTS):
            if version in self._models or not version:
                break
            self.metadata()
        return self._models.get(version) or self.current

    def classify(self, images: NDArray[np.uint8], model: ModelMetadata) -> list[Prediction]:
        """Send images that were decoded for a model, wait for the answer, and return N predictions.

        A batch that is too large is sent in parts, and so are later ones of its size. A batch that is refused is sent
        in halves until the images that cause the error are alone: only they get an error.

        Args:
            images: uint8 [N,S,S,3], RGB, 0-255.
            model: the metadata they were decoded for.

        Raises:
            ServiceError: no server answers, or the model refuses all images; the run ends.
            ModelChanged: another version answers, which needs other images; it is `current` now.
            Stopped: `close` or `finish` was called.
        """
        return [
            replace(prediction, model=self._check_input(self._metadata_of(prediction.version or 0), model))
            for prediction in self._classify(images, model)
        ]

    def output(self, signature: str, images: NDArray[np.uint8], name: str, model: ModelMetadata) -> NDArray[np.float32]:
        """One output of another signature.

        Args:
            signature: its name.
            images: uint8 [N,S,S,3], RGB, 0-255, decoded for this model.
            name: of the output.
            model: the metadata they were decoded for.

        Returns:
            float32 [N, ...].

        Raises:
            ServiceError: no server answers.
            RequestRefused: the model has no such signature, refuses the images, or is another version.
            Stopped: `close` or `finish` was called.
        """
        try:
            answer = self._request(signature, {contract.IMAGES: images}, name)
            values = answer.outputs[name].astype(np.float32)
        except CodecError as error:
            message = f"the answer to {signature} cannot be read: {error}"
            raise RequestRefused(message, RetryAction.FAIL_REQUEST) from error
        if values.ndim < 2 or len(values) != len(images):
            message = f"{signature} answers with shape {values.shape} for {len(images)} images"
            raise RequestRefused(message, RetryAction.FAIL_REQUEST)
        if answer.version not in (0, model.model_version):
            message = f"version {answer.version} answers now instead of {model.model_version}; run again"
            raise RequestRefused(message, RetryAction.FAIL_REQUEST)
        return values

    def _request(self, signature: str, inputs: Mapping[str, NDArray[np.generic]], *outputs: str) -> Answer:
        request = self._codec.encode(self.model, signature, inputs, outputs)
        return self._codec.decode(self._balancer.send(request), outputs)

    def _classify(self, images: NDArray[np.uint8], model: ModelMetadata, part: bool = False) -> list[Prediction]:
        if len(images) > 1 and (images.nbytes > _LARGEST_REQUEST or len(images) > (self.largest_batch or len(images))):
            return self._in_halves(images, model)
        try:
            answer = self._request(
                contract.SERVING_DEFAULT,
                {contract.IMAGES: images},
                contract.TOP_LABELS,
                contract.TOP_PROBABILITIES,
            )
            predictions = _predictions(answer, len(images))
            self._has_answered = True
            return predictions
        except (AnswerError, CodecError) as error:
            return [Prediction(error=f"the server's answer cannot be read: {error}")] * len(images)
        except RequestRefused as refusal:
            if refusal.action is RetryAction.BISECT and not part:
                # Perhaps a new version takes another image size: then no image causes the error.
                self._check_input(self.metadata(), model)
            if len(images) > 1 and refusal.action in (RetryAction.SPLIT, RetryAction.BISECT):
                if refusal.action is RetryAction.SPLIT:
                    self.largest_batch = min(self.largest_batch or len(images), (len(images) + 1) // 2)
                return self._in_halves(images, model)
            self._check_refusals(refusal, len(images))
            return [Prediction(error=str(refusal))] * len(images)

    def _check_refusals(self, refusal: RequestRefused, images: int) -> None:
        """End the run if the model has refused many images and answered none: then no image is the cause.

        Raises:
            ServiceError: it has.
        """
        with self._lock:
            self._refused += images
        if not self._has_answered and self._refused >= _MAX_REFUSED:
            raise ServiceError(
                f"the model {self.model} at {self._balancer.addresses} has refused the first {self._refused} images"
                f" ({refusal}): check the server's log"
            )

    def _in_halves(self, images: NDArray[np.uint8], model: ModelMetadata) -> list[Prediction]:
        half = (len(images) + 1) // 2
        return self._classify(images[:half], model, part=True) + self._classify(images[half:], model, part=True)

    def _check_input(self, answering: ModelMetadata, model: ModelMetadata) -> ModelMetadata:
        """The metadata of the version that answers, if it takes the images that another one takes."""
        if (answering.image_size, answering.resize) == (model.image_size, model.resize):
            return answering
        with self._lock:
            self._current = answering
        raise ModelChanged

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _predictions(answer: Answer, count: int) -> list[Prediction]:
    labels, probabilities = answer.outputs[contract.TOP_LABELS], answer.outputs[contract.TOP_PROBABILITIES]
    check_predictions(labels, probabilities, count)
    values = np.clip(probabilities.astype(np.float32), 0, 1)
    return [
        Prediction(
            tuple(zip((name.decode("utf-8", "backslashreplace") for name in names), row, strict=True)), answer.version
        )
        for names, row in zip(labels, values.tolist(), strict=True)
    ]
