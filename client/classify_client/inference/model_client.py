"""The model as the client sees it: what it says of itself and of batches of images."""

import logging
import threading
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import ModelChanged, RequestRefused, ServiceError
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import Balancer, Patience
from classify_client.inference.retry_policy import Remedy
from classify_serving.contract import model as contract
from classify_serving.contract.model import ContractError, ModelMetadata
from classify_serving.contract.tensors import TensorError, from_tensor, to_tensor
from classify_serving.contract.wire_pb2 import ModelSpec, PredictRequest, PredictResponse

_LARGEST_REQUEST: Final = 1 << 30
"""Bytes; protobuf cannot write a message of 2 GiB."""
_ASK_FOR_VERSION: Final = 5
"""Times that several servers are asked for the version that one of them answered with."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image: `top` is (class, probability) best first, or `error` says why there is none.

    `model` is what that version says of itself.
    """

    top: tuple[tuple[str, float], ...] = ()
    version: int | None = None
    error: str = ""
    model: ModelMetadata | None = None


class Service:
    """One model on one or several servers; thread-safe, and a context manager that closes the connections.

    Args:
        connection: the servers.
        model: the model's name there.
        patience: how long to go on without an answer.
        timeout: seconds that one attempt of a request may take.

    Raises:
        SettingsError: the connection's settings cannot be used.
    """

    def __init__(
        self, connection: Connection, model: str, patience: Patience | None = None, timeout: float = 60.0
    ) -> None:
        self.model = model
        self._balancer = Balancer(connection, patience or Patience(), timeout)
        self.servers = len(connection.servers)
        self.largest_batch: int | None = None
        self.finish, self.close = self._balancer.finish, self._balancer.close
        self._lock = threading.Lock()
        self._models: dict[int, ModelMetadata] = {}
        self._current: ModelMetadata | None = None

    @property
    def eased(self) -> int:
        """How often a server asked for fewer requests at once."""
        return self._balancer.eased

    @property
    def current(self) -> ModelMetadata:
        """What the version that answers now says of itself; it is asked the first time only."""
        return self._current or self.metadata()

    def metadata(self) -> ModelMetadata:
        """Ask the model what it is now; `model_version` is the one it is served under.

        Raises:
            ServiceError: no server, no such model, or a model without metadata.
        """
        request = self._request(contract.METADATA, contract.REQUEST, np.array([b""], dtype=np.object_), contract.JSON)
        where = f"the model {self.model} at {self._balancer.addresses}"
        try:
            response = self._balancer.ask(request)
            metadata = ModelMetadata.from_json(from_tensor(response.outputs[contract.JSON])[0])
        except RequestRefused as refusal:
            raise ServiceError(
                f"{where} does not describe itself ({refusal}): export it with classify-train"
            ) from refusal
        except (ContractError, TensorError, IndexError) as error:
            raise ServiceError(f"{where} is not one of ours: {error}") from error
        version = response.model_spec.version.value or metadata.model_version
        return self._take_note(replace(metadata, model_version=version))

    def _take_note(self, metadata: ModelMetadata) -> ModelMetadata:
        with self._lock:
            earlier, version = self._current, metadata.model_version
            if earlier and version not in self._models:
                log.warning("The model changed from version %d to %d", earlier.model_version, version)
            self._current = self._models[version] = metadata
        return metadata

    def _model_of(self, version: int) -> ModelMetadata:
        """What a version that answered says of itself; the current one, if it is gone already."""
        for _ in range(_ASK_FOR_VERSION):
            if version in self._models or not version:
                break
            self.metadata()
        return self._models.get(version) or self.current

    def classify(self, images: NDArray[np.uint8], model: ModelMetadata) -> list[Prediction]:
        """Send uint8 [N,S,S,3] that were decoded for a model, wait for the answer, and give N predictions.

        A batch that is too large is sent in parts, and so are later ones of its size. One that is refused is sent
        in halves until the images at fault are alone: only they get an error.

        Raises:
            ServiceError: no server answers; the run ends.
            ModelChanged: another version answers, which wants its images in another way; it is `current` now.
            Stopped: the service was closed or told to finish.
        """
        return [
            replace(prediction, model=self._same_input(self._model_of(prediction.version or 0), model))
            for prediction in self._classify(images, model)
        ]

    def output(self, signature: str, images: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """One output of another signature for uint8 [N,S,S,3]: float32, its first dimension N.

        Raises:
            ServiceError: no server answers.
            RequestRefused: the model has no such signature, or refuses the images.
            Stopped: as `classify`.
        """
        try:
            response = self._balancer.ask(self._request(signature, contract.IMAGES, images, name))
            values = from_tensor(response.outputs[name]).astype(np.float32)
        except TensorError as error:
            raise RequestRefused(f"the answer to {signature} cannot be read: {error}", Remedy.REFUSE) from error
        if values.ndim < 2 or len(values) != len(images):
            raise RequestRefused(f"{signature} answers {values.shape} for {len(images)} images", Remedy.REFUSE)
        return values

    def _classify(self, images: NDArray[np.uint8], model: ModelMetadata, part: bool = False) -> list[Prediction]:
        if len(images) > 1 and (images.nbytes > _LARGEST_REQUEST or len(images) > (self.largest_batch or len(images))):
            return self._in_halves(images, model)
        request = self._request(
            contract.SERVING_DEFAULT, contract.IMAGES, images, contract.TOP_LABELS, contract.TOP_PROBABILITIES
        )
        try:
            return _read_answer(self._balancer.ask(request), len(images))
        except TensorError as error:
            return [Prediction(error=f"the server's answer cannot be read: {error}")] * len(images)
        except RequestRefused as refusal:
            if refusal.remedy is Remedy.ISOLATE and not part:
                # Of another size than a new version takes, perhaps: then no image is at fault.
                self._same_input(self.metadata(), model)
            if len(images) > 1 and refusal.remedy in (Remedy.SPLIT, Remedy.ISOLATE):
                if refusal.remedy is Remedy.SPLIT:
                    self.largest_batch = min(self.largest_batch or len(images), (len(images) + 1) // 2)
                return self._in_halves(images, model)
            return [Prediction(error=str(refusal))] * len(images)

    def _in_halves(self, images: NDArray[np.uint8], model: ModelMetadata) -> list[Prediction]:
        half = (len(images) + 1) // 2
        return self._classify(images[:half], model, part=True) + self._classify(images[half:], model, part=True)

    def _same_input(self, answering: ModelMetadata, model: ModelMetadata) -> ModelMetadata:
        if (answering.image_size, answering.resize) == (model.image_size, model.resize):
            return answering
        with self._lock:
            self._current = answering
        raise ModelChanged

    def _request(self, signature: str, name: str, value: NDArray[np.generic], *outputs: str) -> PredictRequest:
        return PredictRequest(
            model_spec=ModelSpec(name=self.model, signature_name=signature),
            inputs={name: to_tensor(value)},
            output_filter=outputs,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_answer(response: PredictResponse, count: int) -> list[Prediction]:
    labels = from_tensor(response.outputs[contract.TOP_LABELS])
    probabilities = from_tensor(response.outputs[contract.TOP_PROBABILITIES]).astype(np.float32)
    if labels.ndim != 2 or labels.shape != probabilities.shape or len(labels) != count or not labels.size:
        raise TensorError(f"{labels.shape} labels and {probabilities.shape} probabilities for {count} images")
    version = response.model_spec.version.value
    return [
        Prediction(tuple(zip((name.decode("utf-8", "backslashreplace") for name in names), row, strict=True)), version)
        for names, row in zip(labels, probabilities.tolist(), strict=True)
    ]
