"""Print what the parts in the given folders need, other parts and TensorFlow left out, one requirement a line.

`pip` can install dependencies only along with a part; images want them in a layer that a change of code leaves alone.
"""

import re
import sys
import tomllib
from pathlib import Path

EXTRA = re.compile(r"^(.*)\[(.+)\]$")


def dependencies(part: str) -> list[str]:
    """The requirements of a part, written `FOLDER` or `FOLDER[extra]`."""
    match = EXTRA.match(part)
    folder, extra = match.groups() if match else (part, None)
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])


for requirement in sorted({line for part in sys.argv[1:] for line in dependencies(part)}):
    if not requirement.startswith("classify-"):
        print(requirement)
