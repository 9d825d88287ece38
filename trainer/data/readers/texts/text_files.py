"""Read text files, and tell files about the data by their names."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.config import ConfigError
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import blocks_within_memory, check_file, need_memory
from trainer.data.readers.encodings import ESCAPED, encoding_hint, unknown_encoding
from trainer.data.readers.files import Problems

DOCUMENT = ".txt"
MEMORY_OF_TEXTS = 3  # memory that a byte of a file takes while its texts are read
HEAD = 1 << 20  # bytes of a file that are looked at
# Names of files that are not classes: whole names, and words of names.
ABOUT = {"readme", "license", "licence", "changelog", "notes", "about", "classes", "requirements", "copyright"}
ABOUT_WORDS = {"readme", "vocab", "vocabulary", "mapping", "labels", "urls", "stopwords", "citation", "license"}


def words_of(name: str) -> list[str]:
    """Return the words of a name of letters alone, in lower case."""
    return re.findall(r"[^\W\d_]+", name.lower())


def is_about(name: str) -> bool:
    """Return whether a file says something about the data by its name, without suffix."""
    return name.lower() in ABOUT or bool(ABOUT_WORDS & {*words_of(name)})


def head_of(file: Path, encoding: str) -> list[str]:
    """Return the first lines of a file, or all of a small file; bytes outside the encoding are replaced.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        size = check_file(file).st_size
        with file.open("rb") as opened:
            lines = opened.read(HEAD).decode(encoding, errors="replace").removeprefix("\ufeff").split("\n")
    except OSError as error:
        raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error
    except UnicodeError as error:  # idna and undefined replace nothing
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit {file}: {reason_of(error)}") from error
    return lines[:-1] if size > HEAD or not lines[-1] else lines


def lines_of(file: Path, encoding: str) -> list[str]:
    """Return the lines of a text file, blank ones too."""
    lines = read_text(file, encoding).split("\n")
    return lines if lines[-1] else lines[:-1]


def read_text(file: Path, encoding: str) -> str:
    """Return the text of a file; escape bytes outside the encoding, so that a message can name their line.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        need_memory(MEMORY_OF_TEXTS * check_file(file).st_size, file)
        with file.open("rb") as opened:
            stored = b"".join(blocks_within_memory(opened, file, MEMORY_OF_TEXTS))
    except OSError as error:
        raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error
    try:
        content = stored.decode(encoding, errors="surrogateescape")
    except UnicodeError:  # some encodings, such as utf-16, do not support surrogateescape
        content = _decoded_roughly(stored, encoding, file)
    except LookupError as error:
        raise unknown_encoding(encoding) from error
    return content.removeprefix("\ufeff")


def _decoded_roughly(stored: bytes, encoding: str, file: Path) -> str:
    try:
        return stored.decode(encoding, errors="replace")
    except UnicodeError as error:  # idna and undefined replace nothing
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit {file}: {reason_of(error)}") from error


def fault_of(text: str, encoding: str) -> str:
    """Return why a text cannot be used; empty for a good text."""
    wrong = ESCAPED.search(text)
    if wrong is None:
        return "" if text.strip() else "no text"
    line = text.count("\n", 0, wrong.start())
    where = f" in line {line + 1} of it" if line else ""
    hint = encoding_hint(encoding)
    return f"byte 0x{ord(wrong[0]) - 0xDC00:02x} is no {encoding}{where}{hint and f'; {hint}'}"


def is_good(text: str, place: str, encoding: str, problems: Problems) -> bool:
    fault = fault_of(text, encoding)
    if fault:
        problems.add(place, fault)
    return not fault
