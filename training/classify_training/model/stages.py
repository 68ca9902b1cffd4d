"""Parts of a classifier as models of their own: some of its stages, from what the stages before computed.

What a stage hands on is one vector for each image: the means over space of the feature maps of earlier stages that the
head takes, and then its own feature map, flattened. The vector of the last stage is what the head takes.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np

from classify_training.config import HeadFeatures
from classify_training.model.backbone import Backbone

_EARLIER_STAGES: Final = 2
"""Stages before the last one whose mean features the head takes, with `multi-level` features."""


def convolutions(backbone: keras.Model) -> list[keras.layers.Conv2D]:
    """The convolutions of a network, in order."""
    return [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]


def backbone_features(network: Backbone, backbone: keras.Model, head_features: HeadFeatures) -> keras.Model:
    """Preprocessed images -> features, [N,D], in the policy's compute dtype."""
    ends = _ends(network, backbone)
    return keras.Model(backbone.inputs, _handed_on([], ends, 1, mean_stages(network, head_features)))


def mean_stages(network: Backbone, head_features: HeadFeatures) -> range:
    """Numbers of the stages whose mean features the head takes."""
    last = len(network.stages)
    return range(last if head_features == "last" else last - _EARLIER_STAGES, last)


def handed_on_width(network: Backbone, backbone: keras.Model, head_features: HeadFeatures, stage: int) -> int:
    """Length of the vectors that a stage, from 1, hands on."""
    ends = _ends(network, backbone)
    means = (int(ends[number - 1].shape[-1]) for number in mean_stages(network, head_features) if number < stage)
    return sum(means) + int(np.prod(ends[stage - 1].shape[1:]))


def stages_as_model(
    network: Backbone, backbone: keras.Model, head: keras.Model, head_features: HeadFeatures, first: int, beyond: int
) -> keras.Model:
    """Stages `first` to `beyond` - 1 of a classifier as a model that shares its layers.

    From stage 1 it takes images, float32 [N,S,S,3] RGB in 0-255, otherwise the vectors of the stage before. Its output
    are the vectors of the last stage, in the policy's compute dtype, or the head's logits if `beyond` is greater than
    `network.head`.

    Args:
        network: facts about the backbone.
        backbone: preprocessed images -> last feature map.
        head: features -> logits.
        head_features: what the head takes.
        first: number of the first stage, from 1; at most the head's.
        beyond: number of the stage after the last one, greater than `first`.
    """
    ends, means = _ends(network, backbone), mean_stages(network, head_features)
    last = min(beyond, network.head) - 1
    if first == network.head:
        return head
    if first == 1:
        inputs = keras.Input(backbone.input_shape[1:], dtype="float32")
        maps = _as_list(keras.Model(backbone.inputs, ends[:last])(network.preprocess(inputs)))
        vectors = _handed_on([], maps, 1, means)
    else:
        before = ends[first - 2]
        widths = [ends[number - 1].shape[-1] for number in means if number < first - 1]
        inputs = keras.Input((sum(widths) + int(np.prod(before.shape[1:])),), dtype=before.dtype)
        start = keras.ops.reshape(inputs[:, sum(widths) :], (-1, *before.shape[1:]))
        maps = _as_list(keras.Model(before, ends[first - 1 : last])(start))
        earlier = [inputs[:, : sum(widths)]] if widths else []
        vectors = _handed_on(earlier, [start, *maps], first - 1, means)
    return keras.Model(inputs, head(vectors) if beyond > network.head else vectors)


def _ends(network: Backbone, backbone: keras.Model) -> list[Any]:
    return [backbone.get_layer(stage.output).output for stage in network.stages]


def _as_list(maps: Any) -> list[Any]:
    return list(maps) if isinstance(maps, list | tuple) else [maps]


def _handed_on(earlier: Sequence[Any], maps: Sequence[Any], first: int, means: range) -> Any:
    """The vectors after the last of some stages, from the means of earlier ones and the feature maps of these.

    Args:
        earlier: means of stages before `first`, [N,...] each.
        maps: feature maps of the stages `first`, `first` + 1, ..., [N,h,w,c] each.
        first: number of the first of these stages.
        means: numbers of the stages whose means are part of the vectors.
    """
    *before, last = enumerate(maps, first)
    parts = [*earlier, *(_mean(each) for number, each in before if number in means), _flat(last[1])]
    return keras.ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _flat(maps: Any) -> Any:
    # Not a layer, which would cast to its own number format.
    return keras.ops.reshape(maps, (-1, int(np.prod(maps.shape[1:]))))


def _mean(maps: Any) -> Any:
    # In float32, because bfloat16 would add up hundreds of values with three digits.
    return keras.ops.cast(keras.ops.mean(keras.ops.cast(maps, "float32"), axis=(1, 2)), maps.dtype)
