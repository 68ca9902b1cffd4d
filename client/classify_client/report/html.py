"""From the content of the report to one file of HTML."""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from classify_serving.review_page.page import page_part, page_script, security_policy


def percent(share: float, digits: int = 0) -> str:
    """A share of 0-1 as text; a share just below 100% or above 0% is not rounded to it."""
    text = f"{share:.{digits}%}"
    if share < 1 and text.startswith("100"):
        return f">{1 - 10 ** -(digits + 2):.{digits}%}"
    if share > 0 and float(text[:-1]) == 0:
        return f"<{10 ** -(digits + 2):.{digits}%}"
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("classify_client.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["images"] = lambda count: "1 image" if count == 1 else f"{count:,} images"
    return environment


def _part(name: str) -> str:
    return resources.files("classify_client.report").joinpath("page", name).read_text(encoding="utf-8")


def render(view: Mapping[str, Any]) -> str:
    """The page as one file. All values are escaped, and its content security policy allows only its own scripts."""
    script, decide = _part("report.js"), page_script()
    # The only text that is not escaped: files of this project, without any value of the run.
    parts = {
        "style": Markup(_part("report.css") + page_part("decide.css")),
        "script": Markup(script),
        "decide_script": Markup(decide),
        "decide_section": Markup(page_part("decide.html")),
        "policy": Markup(security_policy(script, decide)),
    }
    return _environment().get_template("report.html.j2").render(**view, **parts)
