"""After a run, results are read once, each miss is opened once, and nothing is written twice without a reason."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from client_support import Client

from classify_serving.exchange.train_manifest import train_manifest_csv
from classify_serving.files import sha256_of

COUNT_OPENED_FILES = """
import collections, json, os, sys

opened = collections.Counter()

def count(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened["written" if arguments[2] & (os.O_WRONLY | os.O_RDWR) else "read", os.path.basename(arguments[0])] += 1

sys.addaudithook(count)
from classify_client.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps([[*key, number] for key, number in opened.items()]))
"""


def opened_files(client: Client, *options: str) -> Counter[tuple[str, str]]:
    """Run the command in a process of its own; how often each file was opened, by mode and name."""
    command = [str(client.images), "--server", client.address, "--output", str(client.output), *options]
    result = subprocess.run(
        [sys.executable, "-c", COUNT_OPENED_FILES, *command], capture_output=True, text=True, check=True
    )
    return Counter({(mode, name): number for mode, name, number in json.loads(result.stdout.splitlines()[-1])})


def test_each_file_is_opened_once(client: Client, tmp_path: Path) -> None:
    manifest = tmp_path / "train_manifest.csv"
    manifest.write_bytes(train_manifest_csv([(sha256_of(client.images / "black/1.png"), "black", "train")]))
    opened = opened_files(client, "--train-manifest", str(manifest))
    assert client.misses() == ["black_to_white_2.png", "grey_to_black_2.png"]
    assert [opened["read", name] for name in client.misses()] == [1, 1]
    # The second time only its last byte is read, which tells whether the last row is complete.
    assert opened["read", "predictions.csv"] == 2
    # Before the analysis, and again because some images are from training.
    assert opened["written", ".summary.json.tmp"] == 2
    assert opened["written", ".report.html.tmp"] == 1
    # To classify it, and for its hash: it is not a miss.
    assert opened["read", "1.jpg"] == 2
