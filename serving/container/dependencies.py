"""Print the requirements of the parts in the given folders, one per line, without the project's other parts.

`pip` installs a package's dependencies only together with the package. Images need them in a layer of their own, which
is not rebuilt when the code changes.
"""

import re
import sys
import tomllib
from pathlib import Path

EXTRA = re.compile(r"^(.*)\[(.+)\]$")


def dependencies(part: str) -> list[str]:
    """The requirements of a part, given as `FOLDER` or `FOLDER[extra,...]`."""
    match = EXTRA.match(part)
    folder, extras = (match[1], match[2].split(",")) if match else (part, [])
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]


for requirement in sorted({line for part in sys.argv[1:] for line in dependencies(part)}):
    if not requirement.startswith("classify-"):
        print(requirement)
