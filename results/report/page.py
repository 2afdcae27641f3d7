"""From a template to a page: everything is escaped, and the policy names the very scripts that may run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from results.report.text import for_script, uncut, visible_or_markup

__all__ = ["Script", "own_script", "plotly", "render"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Script:
    """A script of a page: its text inside the page, or `address` of a file beside it."""

    text: str = ""
    address: str | None = None

    @property
    def inline(self) -> Markup:
        """What stands between the tags: no text in it ends them."""
        return Markup(self.text)

    @property
    def source(self) -> str:
        """The source expression that lets this script run, and no other (CSP level 2)."""
        return "'self'" if self.address else _hash(self.text)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def own_script(name: str) -> Script:
    """A script of this folder."""
    return Script((_HERE / name).read_text(encoding="utf-8"))


@cache
def plotly() -> Script:
    """Plotly's own script, as it stands in the installed package."""
    from plotly.offline import get_plotlyjs

    # Browsers hash and parse what is left when line ends are normalised; inside strings a backslash changes nothing.
    text = str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")
    return Script(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def render(template: str, scripts: Sequence[Script] = (), free_styles: bool = False, **values: Any) -> str:
    """A page. `free_styles`: Plotly writes styles of its own; else only ours holds."""
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    styles = "'unsafe-inline'" if free_styles else _hash(style)
    sources = " ".join(dict.fromkeys(script.source for script in scripts)) or "'none'"
    policy = f"default-src 'none'; script-src {sources}; style-src {styles}; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    return str(page.render(policy=policy, style=Markup(style), scripts=scripts, **values))


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        finalize=visible_or_markup,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["json"] = for_script
    environment.filters["uncut"] = uncut
    return environment
