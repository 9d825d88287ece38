"""A parsed HTML page, for tests of the commands that write pages."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

from PIL import Image

VOID = {"meta", "path", "use", "rect", "br", "img"}


class Page(HTMLParser):
    """The text of a page, and its tags with their attributes; every tag must be closed where it is open."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self.feed(content)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every tag with this name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def loaded(self) -> list[str]:
        """What the page loads and links to outside itself."""
        named = [attributes.get(key, "") for _, attributes in self.tags for key in ("src", "srcset", "data", "href")]
        return [value for value in named if value and not value.startswith(("data:", "#"))]

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures that the page contains."""
        contents = (base64.b64decode(attributes["src"].partition(",")[2]) for attributes in self.named("img"))
        return [Image.open(io.BytesIO(content)) for content in contents]
