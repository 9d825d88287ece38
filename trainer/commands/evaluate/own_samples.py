"""Find the samples of other data that are in the files or folders with whose data a run was trained.

A file that was added to the run's own folder makes it other data: the splits are cut anew, and nothing says which
samples the run was trained on. Where they are tells at least that they may be among these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.commands.opened_run import OpenedRun
from trainer.config.untrusted_files import at_home
from trainer.data import Data
from trainer.runs.directory import ENVIRONMENT, read_json
from trainer.runs.read import flatten
from trainer.runs.resume import is_under


def count_in_own_path(model: OpenedRun, data: Data, positions: Tensor) -> int:
    """Return how many of the samples at ``positions`` are below a path of the run's own data.

    A file without the places of its samples counts as a whole.
    """
    started_in = Path(str(read_json(model.run.path / ENVIRONMENT).get("directory", "")))
    stored = [value for key, value in model.run.config.items() if is_under(key, ["dataset.path"])]
    own = [(started_in / path).resolve() for path in _paths(stored)]
    prefixes = [
        str(path / mine.relative_to(path.resolve()) if mine.is_relative_to(path.resolve()) else path)
        for path in _paths(flatten({"path": model.settings.dataset.get("path")}).values())
        for mine in own
        if mine.is_relative_to(path.resolve()) or path.resolve().is_relative_to(mine)
    ]
    if data.places is None:
        return len(positions) if prefixes else 0
    starts = tuple(prefix + end for prefix in prefixes for end in (os.sep, ":", ",", " "))
    places = (data.places[position] for position in positions.tolist())
    return sum(place in prefixes or place.startswith(starts) for place in places) if prefixes else 0


def _paths(values: Iterable[Any]) -> list[Path]:
    return [at_home(each, "dataset.path") for each in values if isinstance(each, str)]
