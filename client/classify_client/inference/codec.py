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
from classify_serving.contract.tensors import TensorError, from_tensor, to_tensor
from classify_serving.contract.wire_pb2 import ModelSpec, PredictRequest, PredictResponse


class CodecError(Exception):
    """An answer that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class Answer:
    """A decoded answer: output arrays by name, and the model version that computed them (0 if it does not say)."""

    outputs: Mapping[str, NDArray[np.generic]]
    version: int


class Codec(Protocol):
    """One protocol.

    Attributes:
        method: gRPC method that takes the requests.
    """

    method: str

    def encode(
        self, model: str, signature: str, inputs: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]
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
        self, model: str, signature: str, inputs: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]
    ) -> bytes:
        """As the protocol says."""
        request = PredictRequest(
            model_spec=ModelSpec(name=model, signature_name=signature),
            inputs={name: to_tensor(value) for name, value in inputs.items()},
            output_filter=outputs,
        )
        return request.SerializeToString()

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


PREDICT: Final = PredictCodec()
