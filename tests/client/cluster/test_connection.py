"""What is said of threads of Ray that fail."""

import threading
from pathlib import Path

import pytest

from classify_client.cluster.machines.connection import _without_errors_of_threads


def test_only_errors_of_rays_own_threads_are_not_printed(tmp_path: Path) -> None:
    source = "def fail():\n    raise InterruptedError('%s')\n"
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda error: printed.append(str(error.exc_value)))
        with _without_errors_of_threads(tmp_path / "ray"):
            for name in ("ray", "other"):
                names: dict[str, object] = {}
                exec(compile(source % name, tmp_path / name / "pool.py", "exec"), names)
                thread = threading.Thread(target=names["fail"])  # type: ignore[arg-type]
                thread.start()
                thread.join()
    assert printed == ["other"]
