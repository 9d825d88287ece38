"""Render the HTML pages from templates.

A page is a single, self-contained file: the style sheet and all pictures are embedded. jinja2 escapes every value; it
is imported only when a page is written.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from trainer.commands.text_table import counted, figure, lasted
from trainer.config.terminal import escaped

if TYPE_CHECKING:
    from jinja2 import Environment

DRAWINGS = "drawings.html"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def mark(command: str) -> str:
    """Return the HTML tag that identifies pages written by ``trainer COMMAND``, which may be overwritten."""
    return f'<meta name="generator" content="trainer {command}">'


def render(template: str, **values: Any) -> str:
    """Return a whole page as HTML.

    Args:
        template: the name of a template file in the folder of this module.
        values: the variables of the template; every template needs ``command`` and ``title``.
    """
    return escaped(_environment().get_template(template).render(values))


def draw(macro: str, **values: Any) -> Markup:
    """Return the HTML that a macro in ``drawings.html`` returns for the given arguments."""
    drawing: Markup = getattr(_environment().get_template(DRAWINGS).module, macro)(**values)
    return drawing


def _without_control_characters(value: object) -> object:
    """Escape what could move the cursor of a terminal that shows the page as text; line breaks and tabs remain."""
    if not isinstance(value, str):
        return value
    return type(value)(_CONTROL.sub(lambda found: ascii(found[0])[1:-1], value))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_control_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "counted": counted, "lasted": lasted}
    return environment
