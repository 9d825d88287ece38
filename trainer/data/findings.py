"""The findings of the checks of a data set, and functions for their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from trainer.data.data import Data
from trainer.data.readers.texts.tokens import join_tokens
from trainer.data.sources import Inputs, unpadded
from trainer.spec import Spec

MAX_LETTERS = 40  # the maximum length of a text that a finding quotes
MAX_NAMED = 3  # the maximum number of samples or classes that a finding names


@dataclass(frozen=True)
class Finding:
    """A result of a check.

    Args:
        level: a warning asks the user to act, a note does not.
        check: the name of the check, in machine-readable form.
        text: one line that says what was found, in which samples or classes, and what to do about it.
    """

    level: Literal["warning", "note"]
    check: str
    text: str


def place_of(data: Data, split: str, number: int) -> str:
    """Return the place of a sample, such as its file; if unknown, its split, its number and, for texts, its words."""
    position = data.splits()[split].positions[number : number + 1]
    if data.places is not None:
        return data.places[int(position)]
    if "vocabulary" in data.preprocess:
        return f'{split} {number} "{as_text(data, data.splits()[split].source.fetch(position))[0][:MAX_LETTERS]}"'
    return f"{split} {number}"


def as_text(data: Data, inputs: Inputs) -> list[str]:
    """Return the text of each sample of tokens; without a vocabulary, the text consists of the token numbers.

    Args:
        data: the data set, which has the vocabulary.
        inputs: tokens (batch, steps) and, if steps vary, lengths (batch,).
    """
    vocabulary, kind = data.preprocess.get("vocabulary"), data.preprocess.get("tokens")
    return [
        join_tokens((str(token) if vocabulary is None else vocabulary[token] for token in row.tolist()), kind)
        for row in unpadded(inputs)
    ]


def target_text(spec: Spec, target: Tensor) -> str:
    """Return the class, the labels or the values of a sample as text."""
    if spec.task == "classification":
        return spec.classes[int(target)]
    if spec.task == "multilabel":
        pairs = zip(spec.classes, target.tolist(), strict=True)
        return ", ".join(name for name, is_there in pairs if is_there) or "no label"
    return ", ".join(spec.value_text(at, value) for at, value in enumerate(target.tolist()))


def samples_have(count: int, split: str) -> str:
    """Return the beginning of a sentence about ``count`` samples of a split."""
    return f"1 {split} sample has" if count == 1 else f"{count:,} {split} samples have"


def listed(names: Sequence[str], count: int) -> str:
    """Join the first ``MAX_NAMED`` names; if ``count`` is larger, add how many more there are."""
    named = names[:MAX_NAMED]
    more = count - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")
