"""Trees of class folders for tests, and what is found in them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from trainer.config import ConfigError
from trainer.data.readers.files import Problems
from trainer.data.readers.labels.folders import class_folders


def make(root: Path, *places: str) -> Path:
    """Make two files in each folder; ``cat*5`` makes five, ``cat*0`` an empty folder, a name with a dot is a file."""
    for place in places:
        name, _, count = place.partition("*")
        if "." in name:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
            continue
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(int(count or 2)):
            (root / name / f"{number}.png").touch()
    return root


def trees(*levels: str) -> tuple[str, ...]:
    """Return each path through the levels, whose names are parted by ``|``."""
    return tuple("/".join(names) for names in itertools.product(*(level.split("|") for level in levels)))


def find(path: Any, warnings: list[str] | None = None) -> dict[str, int]:
    """Return how many samples each ``split/class`` has."""
    problems = Problems("image_folder", "stop")
    counts = Counter(f"{each.split}/{each.label}" for each in class_folders("image_folder", path, problems, (".png",)))
    problems.settle()
    if warnings is None:
        assert problems.warnings == []
    else:
        warnings += problems.warnings
    return dict(counts)


def refusal(path: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        find(path)
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def typed(word: str) -> Any:
    """Return the value of a word that a message tells to type, as a shell and Hydra read it."""
    (override,) = OverridesParser.create().parse_overrides(shlex.split(word))
    assert override.get_key_element() == "dataset.path"
    return override.value()


def answers(line: str) -> list[Any]:
    """Return the values of the words that a question tells to type."""
    words = [re.split(r", or name other|; ", part)[0] for part in line.split(" type ")[1:]]
    return [typed(word) for word in words]
