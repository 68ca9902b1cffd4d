"""The five signatures of an exported model, as TensorFlow functions of a trained classifier."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata
from classify_training.export.encoded_images import decode_images
from classify_training.model.classifier import Classifier

Tensors = dict[str, tf.Tensor]


class Signatures(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
    """Holds the model's variables, and one TensorFlow function for each signature."""

    def __init__(self, classifier: Classifier, metadata: ModelMetadata) -> None:
        super().__init__()
        backbone, head = classifier.backbone, classifier.head
        explained = backbone.get_layer(classifier.network.explained_layer(metadata.image_size)).output
        self._features = keras.Model(backbone.inputs, [explained, classifier.features.output])
        self._preprocess = classifier.network.preprocess
        self._embedding = classifier.embedding
        self._head = head
        # The method, because a model would be exported as one more object.
        self._predict = classifier.model.predict
        self.metadata = metadata

    def functions(self) -> dict[str, Callable[..., Tensors]]:
        """Signature name -> traced function, for `tf.saved_model.save`."""
        size = self.metadata.image_size
        images = tf.TensorSpec([None, size, size, 3], tf.uint8, name=contract.IMAGES)
        strings = [tf.TensorSpec([None], tf.string, name=name) for name in (contract.IMAGE_BYTES, contract.REQUEST)]
        return {
            contract.SERVING_DEFAULT: _traced(self.classify, images),
            contract.ENCODED: _traced(self.classify_encoded, strings[0]),
            contract.EMBED: _traced(self.embed, images),
            contract.EXPLAIN: _traced(self.explain, images),
            contract.METADATA: _traced(self.describe, strings[1]),
        }

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model itself answers, without the exported functions: uint8 [N,S,S,3] RGB -> float32 [N,C]."""
        logits = self._predict(images.astype(np.float32), verbose=0)
        answers: NDArray[np.float32] = tf.nn.softmax(logits / self.metadata.temperature).numpy()
        return answers

    def classify(self, images: tf.Tensor) -> Tensors:
        """uint8 [N,S,S,3] RGB -> probabilities, and the K labels with the highest ones."""
        _, features = self._features(self._preprocess(tf.cast(images, tf.float32)))
        return self._answers(self._head(features))

    def classify_encoded(self, image_bytes: tf.Tensor) -> Tensors:
        """JPEG, PNG, GIF or BMP files, string [N] -> the same outputs as `classify`."""
        images = decode_images(image_bytes, self.metadata.image_size, self.metadata.resize)
        return self.classify(images)

    def embed(self, images: tf.Tensor) -> Tensors:
        """uint8 [N,S,S,3] RGB -> embeddings, float32 [N,512]."""
        _, features = self._features(self._preprocess(tf.cast(images, tf.float32)))
        return {contract.EMBEDDING: tf.cast(self._embedding(features), tf.float32)}

    def explain(self, images: tf.Tensor) -> Tensors:
        """Grad-CAM of the predicted class (Selvaraju et al., 2017, equations 1 and 2), scaled to 0-1.

        uint8 [N,S,S,3] RGB -> heatmap, float32 [N,h,w], and the outputs of `classify`. The weight of a feature map is
        the mean gradient of the class's logit over the map; the heatmap is the positive part of the weighted sum, and 0
        everywhere if that has no positive part.
        """
        pixels = self._preprocess(tf.cast(images, tf.float32))
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            maps, features = self._features(pixels)
            logits = self._head(features)
            # A logit depends on its own image only, so the gradient of the sum is the gradient for each image.
            best = tf.reduce_sum(tf.reduce_max(logits, axis=1))
        gradients = tf.cast(tape.gradient(best, maps), tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
        heat = tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=(1, 2), keepdims=True))
        return {contract.HEATMAP: heat, **self._answers(logits)}

    def describe(self, request: tf.Tensor) -> Tensors:
        """Any strings [N] -> the metadata as JSON, repeated N times."""
        return {contract.JSON: tf.fill(tf.shape(request), tf.constant(self.metadata.to_json()))}

    def _answers(self, logits: tf.Tensor) -> Tensors:
        # In float64: a server that computes float32 in bfloat16 leaves it alone, so that probabilities have a sum of 1.
        scaled = tf.cast(logits, tf.float64) / self.metadata.temperature
        probabilities = tf.cast(tf.nn.softmax(scaled), tf.float32)
        names = tf.constant(self.metadata.class_names)
        best = tf.math.top_k(probabilities, k=min(contract.TOP_K, len(self.metadata.class_names)))
        return {
            contract.PROBABILITIES: probabilities,
            contract.TOP_LABELS: tf.gather(names, best.indices),
            contract.TOP_PROBABILITIES: best.values,
        }


def _traced(function: Callable[..., Tensors], spec: tf.TensorSpec) -> Any:
    # None of them has Python's control flow, which autograph would translate.
    return tf.function(function, input_signature=[spec], autograph=False)
