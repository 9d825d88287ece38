"""How a table names files, so that files without a table get the same names, as a submission needs them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

LOOKED_AT = 100  # cells of a table that show the form
# The name of a file with or without its ending, or its path below a folder with or without its ending.
IdForm = Literal["name", "stem", "path", "path_stem"]
FORMS: tuple[IdForm, ...] = get_args(IdForm)


def id_form(named: Iterable[tuple[str, str]]) -> IdForm:
    """Return the form in which a table names files.

    Args:
        named: each cell with the path of its file.
    """
    counts = dict.fromkeys(FORMS, 0)
    for cell, path in named:
        plain, ending = cell.replace("\\", "/"), Path(path).suffix
        has_ending = bool(ending) and plain.lower().endswith(ending.lower())
        form: IdForm = ("path" if has_ending else "path_stem") if "/" in plain else "name" if has_ending else "stem"
        counts[form] += 1
    return max(FORMS, key=lambda form: counts[form])


def id_of(file: Path, form: IdForm, folders: Iterable[Path]) -> str:
    """Return the identifier of a file; its path, if the form has one, is that below the first folder that holds it."""
    if form in ("name", "stem"):
        return file.name if form == "name" else file.stem
    absolute = file.absolute()
    below = next((absolute.relative_to(each.absolute()) for each in folders if _holds(each, absolute)), file)
    return below.as_posix() if form == "path" else below.with_suffix("").as_posix()


def _holds(folder: Path, file: Path) -> bool:
    return file.is_relative_to(folder.absolute())
