"""`--local-server` on a cluster: one server on each machine, or one for each GPU, for as long as the run lasts."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from classify_client.cluster.machines.connection import start_actor
from classify_client.inference.codec import RequestedModel
from classify_client.inference.connection import Connection
from classify_client.inference.local_server import local_server
from classify_client.inference.model_client import ModelClient
from classify_serving.contract.model import ModelMetadata

_CONNECT_SECONDS: Final = 5.0


class ModelServer:
    """A server on the machine of this process; a Ray actor, with which it ends.

    Args:
        model: the model's folder.
    """

    def __init__(self, model: Path) -> None:
        self._model, self._stack = model, ExitStack()
        self._address = self._name = ""

    def address(self) -> tuple[str, str]:
        """`host:port` and the model's name; starts the server, also again if it has ended.

        Raises:
            ServiceError: it does not start.
        """
        if not _listens(self._address):
            self._stack.close()
            self._address, self._name = self._stack.enter_context(local_server(self._model))
        return self._address, self._name

    def metadata(self) -> ModelMetadata:
        """The metadata of its model.

        Raises:
            ServiceError: it does not start, or does not answer.
        """
        address, name = self.address()
        with ModelClient(Connection(servers=(address,)), RequestedModel(name)) as client:
            return client.metadata()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


class ServerPool:
    """The servers of all machines, each started when it is first asked for; a Ray actor, with which they end.

    Args:
        model: the model's folder.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._servers: dict[str, list[Any]] = {}

    def on_node(self, identity: str, gpus: float) -> list[Any]:
        """Handles of the servers of a machine: one, or one for each GPU."""
        if identity not in self._servers:
            count = max(1, int(gpus))
            self._servers[identity] = [
                start_actor(ModelServer, self._model, node=identity, gpus=int(gpus >= 1)) for _ in range(count)
            ]
        return self._servers[identity]
