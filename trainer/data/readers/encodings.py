"""What a message about the key ``dataset.encoding`` says."""

from __future__ import annotations

import re

from trainer.config import ConfigError

ESCAPED = re.compile("[\udc80-\udcff]")  # bytes outside the encoding, escaped by errors="surrogateescape"
NAMES_OF_UTF8 = ("utf-8", "utf8", "utf-8-sig")


def is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in NAMES_OF_UTF8


def encoding_hint(encoding: str) -> str:
    """Return which encodings to try when a file has bytes outside UTF-8; empty if another encoding was asked for."""
    return "dataset.encoding=latin-1 or cp1252 may be right" if is_utf8(encoding) else ""


def with_hint(fault: str, encoding: str) -> str:
    """Return the fault of a sample, with the encodings to try if the sample has bytes that are no text."""
    hint = encoding_hint(encoding) if re.search(r"byte 0x\w\w is no text$", fault) else ""
    return f"{fault}; {hint}" if hint else fault


def unknown_encoding(encoding: str) -> ConfigError:
    return ConfigError(f"dataset.encoding: {encoding}: no such encoding; such as utf-8, latin-1, cp1252")
