"""How requests to a model are written and its answers read: TensorFlow Serving's Predict protocol over gRPC.

The only module of the client that knows the wire messages; another protocol would be another codec.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from classify_client.inference.validation import AnswerError, check_shape
from classify_serving.contract.tensors import TensorError, from_tensor, predict_request
from classify_serving.contract.wire_pb2 import ModelSpec, PredictResponse


class CodecError(Exception):
    """An answer that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class Answer:
    """A decoded answer: output arrays by name, and the model version that computed them (0 if it does not say)."""

    outputs: Mapping[str, NDArray[np.generic]]
    version: int


@dataclass(frozen=True)
class RequestedModel:
    """The model that requests ask for, by its name on the server, and which version of it.

    Attributes:
        name: of the model.
        version: its number; None for any.
        label: that the server has given to a version; None for any. At most one of the two is set: with neither, the
            newest version answers.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name} version {self.version}"
        return self.name if self.label is None else f"{self.name} with the label {self.label}"


class Codec(Protocol):
    """One protocol.

    Attributes:
        method: gRPC method that takes the requests.
    """

    method: str

    def encode(
        self, model: RequestedModel, signature: str, inputs: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]
    ) -> bytes:
        """Write a request for some outputs of one of a model's signatures."""

    def decode(self, content: bytes, outputs: Sequence[str]) -> Answer:
        """Read these outputs of an answer.

        Raises:
            CodecError: the answer cannot be read, or lacks an output.
        """


class PredictCodec:
    """`tensorflow.serving.PredictionService/Predict`, with the contract's own minimal messages."""

    method: str = "/tensorflow.serving.PredictionService/Predict"

    def encode(
        self, model: RequestedModel, signature: str, inputs: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]
    ) -> bytes:
        """As the protocol says."""
        return predict_request(_model_spec(model, signature), inputs, outputs)

    def decode(self, content: bytes, outputs: Sequence[str]) -> Answer:
        """As the protocol says."""
        try:
            response = PredictResponse.FromString(content)
            for name in outputs:
                check_shape(response.outputs[name])
            arrays = {name: from_tensor(response.outputs[name]) for name in outputs}
        except (AnswerError, DecodeError, TensorError) as error:
            raise CodecError(str(error)) from error
        return Answer(arrays, response.model_spec.version.value)


def _model_spec(model: RequestedModel, signature: str) -> ModelSpec:
    spec = ModelSpec(name=model.name, signature_name=signature)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None:
        spec.version_label = model.label
    return spec


PREDICT: Final = PredictCodec()
