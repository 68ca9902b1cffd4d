"""The client starts at once and never needs TensorFlow."""

import subprocess
import sys


def loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


def test_help_loads_nothing_heavy() -> None:
    code = "from classify_client.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not loaded(code) & {"numpy", "grpc", "PIL", "google", "rich", "msgspec", "jinja2", "tensorflow"}


def test_a_run_loads_no_tensorflow() -> None:
    assert not loaded("import classify_client.run") & {"tensorflow", "keras", "tensorflow_serving", "sklearn", "scipy"}


def test_the_library_is_imported_when_it_is_asked_for() -> None:
    assert not loaded("import classify_client") & {"numpy", "grpc", "PIL"}
    assert "grpc" in loaded("from classify_client import classify")
    assert "tensorflow" not in loaded("from classify_client import classify")
