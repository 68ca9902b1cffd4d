"""Packages loaded at start-up: few for --help, and never TensorFlow."""

import subprocess
import sys


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a new Python process has loaded after running this code."""
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


def test_help_loads_no_heavy_package() -> None:
    code = "from classify_client.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not loaded_by(code) & {"numpy", "grpc", "PIL", "google", "rich", "msgspec", "jinja2", "tensorflow"}


def test_a_run_loads_no_tensorflow() -> None:
    assert not loaded_by("import classify_client.run") & {
        "tensorflow",
        "keras",
        "tensorflow_serving",
        "sklearn",
        "scipy",
        "ray",
        "pyarrow",
        "pandas",
    }


def test_a_cluster_needs_ray() -> None:
    code = (
        "import sys; sys.modules['ray'] = None; from classify_client.cli.main import main; main(['x', '--ray', 'auto'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "Error: --ray needs Ray: pip install 'classify-client[ray]'\n")


def test_the_python_api_is_loaded_at_its_first_use() -> None:
    assert not loaded_by("import classify_client") & {"numpy", "grpc", "PIL"}
    assert "grpc" in loaded_by("from classify_client import classify")
    assert "tensorflow" not in loaded_by("from classify_client import classify")
