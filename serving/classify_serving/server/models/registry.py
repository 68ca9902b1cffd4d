"""The served models, and which version of which model a request asks for.

Rules and messages are TensorFlow Serving's: tensorflow_serving/model_servers/server_core.cc.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from classify_serving.server.errors import RequestError, invalid_argument
from classify_serving.server.servable import Servable


@dataclass(frozen=True)
class Model:
    """One model; it is replaced, never changed, so that a request sees one state of it.

    Attributes:
        servables: the versions that answer requests, by number.
        labels: the version that each label stands for; it may not be loaded.
        others: states of versions that do not answer requests: loading, failed, being unloaded or unloaded.
    """

    servables: Mapping[int, Servable] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[int, ModelVersionStatus] = field(default_factory=dict)

    def statuses(self) -> list[ModelVersionStatus]:
        """The state of each version that the server knows, the highest number first."""
        available = {
            version: ModelVersionStatus(version=version, state=ModelVersionStatus.AVAILABLE, status={})
            for version in self.servables
        }
        statuses = {**self.others, **available}
        return [statuses[version] for version in sorted(statuses, reverse=True)]


class Models:
    """The models that answer requests.

    A running request keeps its version, even if it is replaced in the meantime; then the version's memory is freed.

    Args:
        servables: loaded versions.

    Attributes:
        current: the models by name; assign another mapping to replace them.
    """

    def __init__(self, *servables: Servable) -> None:
        self.current: Mapping[str, Model] = {
            name: Model({servable.version: servable for servable in servables if servable.name == name})
            for name in dict.fromkeys(servable.name for servable in servables)
        }


def find_servable(models: Mapping[str, Model], spec: ModelSpec) -> Servable:
    """The loaded version that a request asks for: by number, by label, or otherwise the highest one.

    Raises:
        RequestError: there is no such model, version or label.
    """
    version = requested_version(models, spec)
    model = models.get(spec.name, Model())
    found = model.servables.get(max(model.servables, default=0) if version is None else version)
    if found is None:
        asked = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
    return found


def requested_version(models: Mapping[str, Model], spec: ModelSpec) -> int | None:
    """The version number that a request asks for, by number or label; None for the highest version.

    Raises:
        RequestError: the request names no model, or an unknown label.
    """
    if not spec.name:
        raise invalid_argument("ModelSpec has no name specified.")
    if spec.HasField("version"):
        return int(spec.version.value)
    if not spec.HasField("version_label"):
        return None
    version = models.get(spec.name, Model()).labels.get(spec.version_label)
    if version is None:
        raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
    return version
