"""The signatures of a model that computes with 8-bit integers; the heat maps of `explain` need gradients: float32."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata
from classify_training.data.batches import batches
from classify_training.export.signatures import Signatures, Tensors
from classify_training.model.classifier import Classifier
from classify_training.quantization.int8_network import Int8Network

_BATCH = 32


class Int8Signatures(Signatures):
    """As those of the float32 model, with the same names.

    Args:
        classifier: the float32 model, for `explain` and for the logits.
        network: computes the embeddings.
        metadata: of the int8 version.
    """

    def __init__(self, classifier: Classifier, network: Int8Network, metadata: ModelMetadata) -> None:
        super().__init__(classifier, metadata)
        self._network = network
        self._logits = classifier.head.get_layer("logits")

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network answers in this process."""
        size = self.metadata.image_size
        answer = tf.function(
            lambda batch: self.classify(batch)[contract.PROBABILITIES],
            input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)],
            autograph=False,
        )
        return np.concatenate([answer(batch).numpy() for batch in batches(images, _BATCH)])

    def classify(self, images: tf.Tensor) -> Tensors:
        """As of the float32 model."""
        return self._answers(self._logits(self._network.embed(images)))

    def embed(self, images: tf.Tensor) -> Tensors:
        """As of the float32 model."""
        return {contract.EMBEDDING: self._network.embed(images)}
