"""One version of a model as the next version that computes with 8-bit integers, if it gives the same answers."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata, Quantization
from classify_serving.contract.versions import newest_version
from classify_serving.exchange.train_embeddings import run_of
from classify_serving.exchange.train_manifest import TrainManifestError, read_train_manifest
from classify_training.config import DataConfig
from classify_training.data.balance import choose_in_turns
from classify_training.data.dataset import Dataset, load
from classify_training.errors import AnswersDifferError, QuantizationError
from classify_training.export.model_folder import locked_model_folder
from classify_training.export.saved_model import export, remove_leftovers
from classify_training.export.signatures import Signatures
from classify_training.progress import stage
from classify_training.quantization.agreement import Agreement
from classify_training.quantization.answers import answers_of
from classify_training.quantization.calibration import calibrate
from classify_training.quantization.int8_network import Int8Network
from classify_training.quantization.signatures import Int8Signatures
from classify_training.quantization.source import Source, read_source
from classify_training.settings import parse_settings

PRECISION: Final = "int8"
ENVIRONMENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "on this processor": {},
    "on a processor with AVX2 only": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}
"""Where an int8 version must give the same answers -> environment variables that imitate it."""

_CALIBRATION_IMAGES: Final = 512
_FEWEST_IMAGES: Final = 20
_COMPARED_IMAGES: Final = 1000
_TOLERANCE: Final = 1e-3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """What is quantized.

    Attributes:
        model: the model's folder; its newest version is quantized.
        dataset: images to calibrate on and to compare answers on; None for those that the version was trained on.
        quiet: whether to show no progress.
    """

    model: Path
    dataset: Path | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Quantized:
    """Result.

    Attributes:
        path: folder of the int8 version.
        metadata: of this version.
        agreements: of its answers with those of the float32 version, by where they were computed.
    """

    path: Path
    metadata: ModelMetadata
    agreements: Mapping[str, Agreement]


@dataclass(frozen=True)
class _Images:
    """Images of a dataset.

    Attributes:
        pixels: uint8 [N,S,S,3] RGB.
        targets: int64 [N], their classes; -1 if the model has none for the label.
        digests: SHA-256 of each file.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    digests: Sequence[str]


def quantize(config: QuantizeConfig) -> Quantized:
    """Publish the newest version of a model as the next version, with 8-bit integers.

    The ranges of the integers come from images that the model was trained on; answers are compared on others, as far
    as there are any, in new processes, also as other processors compute them.

    Raises:
        QuantizationError: there is no such version or dataset; nothing is published.
        AnswersDifferError: the answers differ too much; nothing is published.
        DatasetError: the dataset cannot be read.
        CacheError: decoded images cannot be written.
        ExportError: the version cannot be written.
        Interrupted: a signal arrived before the version was published.
    """
    remove_leftovers(config.model)
    source = read_source(config.model)
    folder = source.path.parent
    dataset = load(_data(config, source), config.quiet)
    calibration, compared = _choose(dataset, source)
    float32 = Signatures(source.classifier, source.metadata)
    _check_rebuilt(source, float32, compared.pixels[:16])
    network = Int8Network(source.classifier, calibrate(source.classifier, calibration.pixels, config.quiet))
    with stage("Comparing the answers", config.quiet):
        before = float32.probabilities(compared.pixels)
        draft = Int8Signatures(source.classifier, network, source.metadata)
        agreement = Agreement(before, draft.probabilities(compared.pixels), compared.targets)
    _check(agreement, "")
    agreements: dict[str, Agreement] = {}

    def compare_in_new_processes(written: Path) -> None:
        for where, settings in ENVIRONMENTS.items():
            with stage(f"Comparing the answers {where}", config.quiet):
                answers = answers_of(written, compared.pixels, settings)
            if isinstance(answers, str):
                raise AnswersDifferError(
                    f"the int8 model does not run {where} ({answers}): nothing was published; run again, or serve the"
                    " float32 version"
                )
            agreements[where] = Agreement(before, answers, compared.targets)
            _check(agreements[where], where)

    with locked_model_folder(folder, config.quiet):
        if (now := newest_version(folder)) != source.newest:
            raise QuantizationError(
                f"version {now} was published in {folder} in the meantime: look at it, and run the command again if its"
                " 8-bit version is wanted"
            )
        metadata = _metadata(source, source.newest + 1, calibration, agreement)
        signatures = Int8Signatures(source.classifier, network, metadata)
        path = export(
            signatures,
            compared.pixels[:32],
            folder,
            _extras(source.path),
            compare_in_new_processes,
            elsewhere="copy the model's folder to another disk; an int8 version is larger than a float32 one",
        )
    return Quantized(path, metadata, agreements)


def _data(config: QuantizeConfig, source: Source) -> DataConfig:
    """How to read the images: as the model takes them."""
    dataset, cache = config.dataset, DataConfig.cache
    if dataset is None:
        settings = _settings(source.path)
        dataset, cache = Path(settings["dataset"]), Path(settings["cache"])
        if not dataset.is_dir():
            raise QuantizationError(
                f"the dataset that version {source.metadata.model_version} was trained on is not in {dataset} any more:"
                " give images like those with --data"
            )
    return DataConfig(
        dataset=dataset,
        image_size=source.metadata.image_size,
        resize=source.metadata.resize,
        cache=cache if cache.is_dir() else DataConfig.cache,
    )


def _settings(version: Path) -> Mapping[str, Any]:
    try:
        run = run_of(version)
        settings = parse_settings((run / "config.json").read_bytes()) if run else {}
        return {"dataset": settings["dataset"], "cache": settings["cache"]}
    except (OSError, KeyError, msgspec.DecodeError) as error:
        raise QuantizationError(
            f"the training run of {version} is not here, so it is not known what it was trained on: give a folder of"
            " labelled images like those with --data"
        ) from error


def _choose(dataset: Dataset, source: Source) -> tuple[_Images, _Images]:
    """Images to calibrate on, and others to compare the answers on: those that the model has not seen come first."""
    classes = source.metadata.class_names
    names = [source.metadata.true_class(example.file.label) for example in dataset.examples]
    targets = np.array([classes.index(name) if name else -1 for name in names], np.int64)
    if (targets < 0).all():
        raise QuantizationError(
            f"no folder in {dataset.root} has the name of one of the model's classes ({', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}): give images like those that it was trained on with --data"
        )
    seen = _seen(dataset, source.path)
    rng = np.random.default_rng(0)
    training, others = np.flatnonzero(seen), np.flatnonzero(~seen)
    if len(training) < _FEWEST_IMAGES:
        # Another dataset than the model was trained on.
        training, others = np.arange(len(seen)), np.array([], np.int64)
    # Some training images are needed for the comparison if there are few others.
    most = min(_CALIBRATION_IMAGES, len(training) if len(others) >= _FEWEST_IMAGES else len(training) // 2)
    calibration = choose_in_turns(training, targets, most, rng)
    rest = rng.permutation(np.setdiff1d(training, calibration))
    compared = np.concatenate([rng.permutation(others), rest])[:_COMPARED_IMAGES]
    if min(len(calibration), len(compared)) < _FEWEST_IMAGES:
        raise QuantizationError(
            f"{len(dataset.examples)} images in {dataset.root} are too few to calibrate 8-bit integers and to compare"
            f" the answers: give at least {2 * _FEWEST_IMAGES} with --data"
        )
    images = (
        _Images(dataset.pixels(places), targets[places], [dataset.examples[place].digest for place in places.tolist()])
        for places in (np.sort(calibration), np.sort(compared))
    )
    return next(images), next(images)


def _seen(dataset: Dataset, version: Path) -> NDArray[np.bool_]:
    """Which images the version was trained on, bool [N]; all of them if that is not known."""
    try:
        manifest = read_train_manifest(version)
    except TrainManifestError:
        return np.ones(len(dataset.examples), bool)
    splits = [manifest.contents.get(example.digest, {}).values() for example in dataset.examples]
    return np.array(["train" in each for each in splits], bool)


def _check_rebuilt(source: Source, rebuilt: Signatures, images: NDArray[np.uint8]) -> None:
    served = source.serve(images=tf.constant(images))[contract.PROBABILITIES].numpy()
    difference = float(np.abs(rebuilt.probabilities(images) - served).max())
    if not difference <= _TOLERANCE:
        raise QuantizationError(
            f"{source.path} does not compute what its weights say (a difference of {difference:.2g} in probability):"
            " it cannot be quantized"
        )


def _check(agreement: Agreement, where: str) -> None:
    if problem := agreement.problem():
        raise AnswersDifferError(
            f"with 8-bit integers the model would answer too differently{' ' + where if where else ''}: {problem};"
            " nothing was published, serve the float32 version"
        )


def _metadata(source: Source, version: int, calibration: _Images, agreement: Agreement) -> ModelMetadata:
    before, after = agreement.accuracies
    return replace(
        source.metadata,
        model_version=version,
        precision=PRECISION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        quantization=Quantization(
            source_version=source.metadata.model_version,
            calibration_images=len(calibration.digests),
            calibration_fingerprint=hashlib.sha256("\n".join(sorted(calibration.digests)).encode()).hexdigest(),
            compared_images=len(agreement.before),
            changed=agreement.changed,
            source_accuracy=before,
            accuracy=after,
        ),
    )


def _extras(version: Path) -> dict[str, bytes]:
    """The files that a version has besides the model, but for the warm-up requests, which are made anew."""
    folder = version / Path(contract.WARMUP_FILE).parent
    files = [path for path in folder.glob("*") if path.is_file() and path.name != Path(contract.WARMUP_FILE).name]
    return {path.relative_to(version).as_posix(): path.read_bytes() for path in files}
