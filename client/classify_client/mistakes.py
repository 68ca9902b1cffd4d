"""After a run: make what it got wrong easy to see and to mend."""

from pathlib import Path

from classify_client.kinds import find_kinds
from classify_client.progress import waiting
from classify_client.report.results import read_results
from classify_client.report.write import write_report


def look_at_mistakes(folder: Path, quiet: bool) -> None:
    """Write `report.html` from what a run left in its output folder."""
    with waiting("Writing the report", quiet):
        results = read_results(folder)
        write_report(results, find_kinds(results))
