"""Load and unload versions of models, so that the served ones are those of the configuration.

The order is that of TensorFlow Serving's AvailabilityPreservingPolicy: new versions are loaded and warmed up first, and
then versions that are no longer wanted are unloaded, so that no request fails in between.
"""

import gc
import logging
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from classify_serving.contract.versions import ServableError, find_version, is_servable_version, servable_versions
from classify_serving.server.batching import Batching
from classify_serving.server.errors import ModelConfigError
from classify_serving.server.models.config import ModelConfig
from classify_serving.server.models.registry import Model, Models
from classify_serving.server.servable import Servable, load_servable

_ALLOW_LABELS: Final = "--allow-version-labels-for-unavailable-models"
_UNKNOWN: Final = 2
"""Error code of a version that could not be loaded."""

_log = logging.getLogger(__name__)


class ModelManager:
    """Loads what a configuration asks for. Its methods are called by one thread at a time.

    A version that cannot be loaded is logged once and skipped; publish a corrected model under a new version number.

    Args:
        batching: how concurrent requests are merged; None: not at all.
        allow_unavailable_labels: whether a new label may be given to a version that is not loaded.

    Attributes:
        models: what is served now.
        configs: the configuration.
    """

    def __init__(self, batching: Batching | None = None, allow_unavailable_labels: bool = False) -> None:
        self.models = Models()
        self.configs: tuple[ModelConfig, ...] = ()
        self._batching, self._allow_unavailable_labels = batching, allow_unavailable_labels
        self._folders: dict[tuple[str, int], Path] = {}
        self._failed: dict[tuple[str, Path], str] = {}
        self._unloading: dict[tuple[str, int], weakref.ref[Servable]] = {}
        self._problems: dict[str, str] = {}
        self._started = False

    def start(self, configs: Iterable[ModelConfig]) -> None:
        """Load the first configuration.

        Raises:
            ModelConfigError: a label cannot be given.
            ServableError: a model has no version that can be loaded.
        """
        self._configure(tuple(configs))
        for config in self.configs:
            problem = self._update(config)
            if not self.models.current[config.name].servables:
                raise ServableError(problem)
            self._report(config.name, problem)
        self._started = True

    def apply(self, configs: Iterable[ModelConfig]) -> None:
        """Change to another configuration: labels at once, versions as soon as they are loaded.

        Raises:
            ModelConfigError: a label cannot be given; the old configuration stays.
        """
        self._configure(tuple(configs))
        self.check()

    def check(self) -> None:
        """Load and unload versions that have appeared or disappeared in the models' folders."""
        for config in self.configs:
            self._report(config.name, self._update(config))
        self._note_unloaded()

    def _configure(self, configs: tuple[ModelConfig, ...]) -> None:
        self._check_labels(configs)
        current = self.models.current
        self.configs = configs
        self.models.current = {
            config.name: replace(current.get(config.name, Model()), labels=config.labels) for config in configs
        }
        kept = {config.name for config in configs}
        for name in current.keys() - kept:
            self._watch_memory(name, current[name].servables)
        self._folders = {key: folder for key, folder in self._folders.items() if key[0] in kept}
        self._failed = {key: problem for key, problem in self._failed.items() if key[0] in kept}
        self._problems = {name: problem for name, problem in self._problems.items() if name in kept}

    def _check_labels(self, configs: Iterable[ModelConfig]) -> None:
        """A label can be given to a loaded version only; if the flag is set, a new label to any version."""
        for config in configs:
            model = self.models.current.get(config.name, Model())
            for label, version in config.labels.items():
                is_moved = model.labels.get(label, version) != version
                if version in model.servables or (self._allow_unavailable_labels and not is_moved):
                    continue
                remedy = "load the version before the label is moved" if is_moved else f"add {_ALLOW_LABELS}"
                raise ModelConfigError(
                    f"Request to assign label to version {version} of model {config.name}, which is not currently"
                    f" available for inference (label {label}): {remedy}"
                )

    def _update(self, config: ModelConfig) -> str:
        """Load what is wanted, then unload what is not; returns what is wrong, or an empty string."""
        present = servable_versions(config.folder)
        wanted = config.select(present)
        for key in [key for key in self._failed if key[0] == config.name and key[1] not in present.values()]:
            del self._failed[key]
        if not wanted:
            # Unlike TensorFlow Serving, what was loaded keeps answering when all of its folders are gone.
            return _nothing_found(config)
        for version, folder in wanted.items():
            is_loaded = self._folders.get((config.name, version)) == folder
            if not is_loaded and (config.name, folder) not in self._failed:
                self._load(config.name, version, folder)
        if wanted.keys() & self.models.current[config.name].servables.keys():
            self._unload(config.name, keep=wanted)
        failed = (problem for key, problem in self._failed.items() if key[0] == config.name)
        return "; ".join([*_absent(config, present), *failed])

    def _load(self, name: str, version: int, folder: Path) -> None:
        model = self.models.current[name]
        others = {number: status for number, status in model.others.items() if number != version}
        self._replace(name, others=others | {version: _status(version, ModelVersionStatus.LOADING)})
        try:
            servable = load_servable(folder, name, self._batching)
        except (ServableError, OSError) as error:
            self._failed[name, folder] = str(error)
            self._replace(name, others=others | {version: _status(version, ModelVersionStatus.END, str(error))})
            return
        self._folders[name, version] = folder
        self._replace(name, servables={**model.servables, version: servable}, others=others)
        if self._started:
            _log.info("model %s: now serving version %d", name, version)

    def _unload(self, name: str, keep: Iterable[int]) -> None:
        model = self.models.current[name]
        old = {version: servable for version, servable in model.servables.items() if version not in set(keep)}
        if not old:
            return
        servables = {version: servable for version, servable in model.servables.items() if version not in old}
        unloading = {version: _status(version, ModelVersionStatus.UNLOADING) for version in old}
        self._replace(name, servables=servables, others={**model.others, **unloading})
        for version in old:
            del self._folders[name, version]
        self._watch_memory(name, old)

    def _watch_memory(self, name: str, servables: Mapping[int, Servable]) -> None:
        for version, servable in servables.items():
            self._unloading[name, version] = weakref.ref(servable)

    def _note_unloaded(self) -> None:
        """Free the memory of versions whose last request is answered."""
        done = [key for key, servable in self._unloading.items() if servable() is None]
        for name, version in done:
            del self._unloading[name, version]
            model = self.models.current.get(name, Model())
            if model.others.get(version, ModelVersionStatus()).state == ModelVersionStatus.UNLOADING:
                self._replace(name, others={**model.others, version: _status(version, ModelVersionStatus.END)})
        if done:
            # TensorFlow's objects refer to each other in circles.
            gc.collect()

    def _replace(self, name: str, **changes: Any) -> None:
        model = replace(self.models.current[name], **changes)
        self.models.current = {**self.models.current, name: model}

    def _report(self, name: str, problem: str) -> None:
        if problem and problem != self._problems.get(name):
            served = ", ".join(map(str, sorted(self.models.current[name].servables)))
            plural = "s" if "," in served else ""
            still = f"still serving version{plural} {served}" if served else f"no version of {name} is served"
            _log.warning("%s; %s", problem, still)
        self._problems[name] = problem


def _status(version: int, state: Any, error: str = "") -> ModelVersionStatus:
    code = _UNKNOWN if error else 0
    return ModelVersionStatus(version=version, state=state, status={"error_code": code, "error_message": error})


def _nothing_found(config: ModelConfig) -> str:
    if missing := _absent(config, ()):
        return "; ".join(missing)
    if is_servable_version(config.folder):
        return f"{config.folder} is a version of model {config.name}, not its base_path: write {config.folder.parent}"
    try:
        find_version(config.folder)
    except (ServableError, OSError) as error:
        return str(error)
    return ""


def _absent(config: ModelConfig, present: Iterable[int]) -> list[str]:
    return [
        f"no version {version} of model {config.name} in {config.folder}"
        for version in sorted(config.specific.difference(present))
    ]
