"""Which versions of which models are served: one model's folder, or a file in the format of TensorFlow Serving.

The format is that of its flag `--model_config_file`: `ModelServerConfig` in protobuf's text format
(tensorflow_serving/config/model_server_config.proto).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import is_servable_version
from classify_serving.server.errors import ModelConfigError

_PLATFORM: Final = "tensorflow"
_FIELDS: Final = {"name", "base_path", "model_platform", "model_version_policy", "version_labels"}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        name: the model's name in requests.
        folder: its folder, with numbered version folders.
        latest: the number of versions to serve, the highest ones; None: all.
        specific: the only versions to serve; empty: any.
        labels: the version that each label stands for.
    """

    name: str
    folder: Path
    latest: int | None = 1
    specific: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)

    def select(self, versions: Mapping[int, Path]) -> dict[int, Path]:
        """The versions to serve of those that exist, by number, the highest first."""
        allowed = (item for item in versions.items() if not self.specific or item[0] in self.specific)
        return dict(islice(allowed, self.latest))


def single_model(folder: Path, name: str | None) -> ModelConfig:
    """Serve the newest version of the model in `folder`, or exactly `folder` if that is a version.

    Args:
        folder: a model's folder `<name>/`, or a version's folder `<name>/<number>/`.
        name: the model's name in requests; by default the name of the model's folder.
    """
    if is_servable_version(folder):
        only = frozenset({int(folder.name)})
        return ModelConfig(name=name or folder.resolve().parent.name, folder=folder.parent, latest=None, specific=only)
    return ModelConfig(name=name or folder.resolve().name, folder=folder)


def read_model_config(path: Path) -> tuple[ModelConfig, ...]:
    """Read a `--model_config_file`.

    Raises:
        ModelConfigError: the file cannot be read, names no model or one twice, sets an unknown field or one that only
            TensorFlow Serving supports, or has invalid values.
    """
    # Reading a pipe would wait until another program writes to it.
    if path.exists() and not path.is_file():
        raise ModelConfigError(f"cannot read models from {path}: it is not a file, write one")
    try:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ModelConfigError(f"cannot read models from {path} ({error_reason(error)}): correct the file") from error
    if config.HasField("custom_model_config"):
        raise _unsupported(path, "custom_model_config")
    models = tuple(_model(path, entry) for entry in config.model_config_list.config)
    if not models:
        raise ModelConfigError(f"{path} names no model: add one to model_config_list")
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ModelConfigError(f"{path}: Illegal to list model {name} multiple times in config list: remove one")
    return models


def _model(path: Path, entry: Any) -> ModelConfig:
    for field_, _ in entry.ListFields():
        if field_.name not in _FIELDS:
            raise _unsupported(path, field_.name)
    if not entry.name:
        raise ModelConfigError(f"{path} has a model without a name: add it")
    if entry.model_platform != _PLATFORM:
        raise ModelConfigError(
            f'{path}: model {entry.name} needs model_platform: "{_PLATFORM}", which is the only one supported'
        )
    folder = Path(entry.base_path)
    if not folder.is_absolute():
        raise ModelConfigError(
            f"{path}: Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}:"
            f' write "{folder.absolute()}" if that is its folder'
        )
    policy = entry.model_version_policy
    specific = frozenset(policy.specific.versions)
    if policy.HasField("specific") and not specific:
        raise ModelConfigError(f"{path}: the policy specific of model {entry.name} has no versions: add them")
    return ModelConfig(
        name=entry.name,
        folder=folder,
        latest=None if policy.HasField("all") or specific else max(policy.latest.num_versions, 1),
        specific=specific,
        labels=dict(sorted(entry.version_labels.items())),
    )


def _unsupported(path: Path, name: str) -> ModelConfigError:
    return ModelConfigError(f"{path} sets {name}, which classify-serve does not support: remove it")
