"""Routes of the REST interface: from a method, a path and a body to the answer's JSON.

`POST MODEL:predict` runs a signature; json_tensors.py describes the JSON.
`GET MODEL` reports the states of versions.
`GET MODEL/metadata` describes the signatures.

MODEL is `/v1/models/NAME`, `/v1/models/NAME/versions/N` or `/v1/models/NAME/labels/LABEL`.

Paths, answers and messages are TensorFlow Serving's (tensorflow_serving/model_servers/http_rest_api_handler.cc and
http_rest_api_util.cc).
"""

import json
import re
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.server.errors import invalid_argument
from classify_serving.server.models.registry import Models, find_servable
from classify_serving.server.requests import find_signature, model_metadata, model_status, run_signature
from classify_serving.server.rest.json_tensors import inputs_from_json, outputs_to_json

_PATH: Final = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<action>:predict|/metadata)?"
)
_MOST_VERSION: Final = 2**63 - 1


def route(models: Models, method: str, url_path: str, body: bytearray) -> dict[str, Any]:
    """Answer a request of the method `GET` or `POST`.

    Raises:
        RequestError: the path does not exist for this method, or the request is refused.
    """
    path = _PATH.fullmatch(url_path)
    if not path or (method == "POST") != (path["action"] == ":predict"):
        raise invalid_argument(f"Malformed request: {method} {url_path}")
    if method == "POST":
        return _predict(models, path, body)
    return _metadata(models, path) if path["action"] else _status(models, path)


def _status(models: Models, path: "re.Match[str]") -> dict[str, Any]:
    request = GetModelStatusRequest()
    _set_model(request.model_spec, path)
    return _to_dict(model_status(models, request))


def _metadata(models: Models, path: "re.Match[str]") -> dict[str, Any]:
    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    _set_model(request.model_spec, path)
    response = model_metadata(models, request)
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}


def _to_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _predict(models: Models, path: "re.Match[str]", body: bytearray) -> dict[str, Any]:
    content = _parse(body)
    signature = content.get("signature_name", SERVING_DEFAULT)
    if not isinstance(signature, str):
        raise invalid_argument("'signature_name' key must be a string value.")
    request = PredictRequest()
    _set_model(request.model_spec, path)
    # Found once, so that the inputs are converted for the version that gets them.
    servable = find_servable(models.current, request.model_spec)
    for alias, tensor in inputs_from_json(content, find_signature(servable, signature)).items():
        request.inputs[alias].CopyFrom(tensor)
    request.model_spec.signature_name = signature
    return outputs_to_json(run_signature(servable, request).outputs, by_row="instances" in content)


def _parse(body: bytearray) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: lists or objects are nested too deeply") from error
    except ValueError as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(content, dict):
        raise invalid_argument("JSON Parse error: the request is not a JSON object")
    return content


def _set_model(spec: Any, path: "re.Match[str]") -> None:
    spec.name = unquote(path["name"])
    if path["label"]:
        spec.version_label = unquote(path["label"])
    if path["version"]:
        digits = path["version"].lstrip("0") or "0"
        # The length is checked first, because Python refuses to convert very long numbers.
        if len(digits) > len(str(_MOST_VERSION)) or int(digits) > _MOST_VERSION:
            raise invalid_argument(f"Failed to convert version: {digits} to numeric")
        spec.version.value = int(digits)
