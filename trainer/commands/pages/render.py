"""Fill in the templates of the HTML pages.

A page is one file that needs nothing else: the style sheet and all pictures are within it. Every value is escaped by
jinja2, which is imported only when a page is written.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.text_table import counted, figure, lasted

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

DRAWINGS = "drawings.html"


def mark(command: str) -> str:
    """Return the tag at the top of every page of ``trainer COMMAND``, which tells it from a file of another origin."""
    return f'<meta name="generator" content="trainer {command}">'


def render(template: str, **values: Any) -> str:
    """Return a whole page.

    Args:
        template: the name of a file beside this module.
        values: what the template refers to; ``command`` and ``title`` are needed by all.
    """
    page = _environment().get_template(template).render(values)
    return page.encode("utf-8", "replace").decode()  # names of files may hold bytes that are not valid UTF-8


def draw(macro: str, **values: Any) -> Markup:
    """Return the HTML that a macro of ``drawings.html`` makes of its arguments."""
    drawing: Markup = getattr(_environment().get_template(DRAWINGS).module, macro)(**values)
    return drawing


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "counted": counted, "lasted": lasted}
    return environment
