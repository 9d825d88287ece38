"""The user's own texts: in columns of a table, in one file for each class, or in one folder for each class."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data import Data, ReadOptions
from trainer.data.readers.files import Problems
from trainer.data.readers.labels.labelling import Labelling
from trainer.data.readers.tables.layout import ColumnKey
from trainer.data.readers.targets import TargetKeys
from trainer.data.readers.texts.text_folders import find_texts
from trainer.data.readers.texts.text_tables import TextColumns
from trainer.data.readers.texts.tokens import TextKeys, token_data
from trainer.dataset import DATASETS


class TextFileKeys(TextKeys, TargetKeys):
    """The keys that say what is predicted, and how texts are split and loaded."""


@DATASETS.register
def text(
    seed: int,
    options: ReadOptions,
    *,
    input: ColumnKey | list[ColumnKey] | None,
    target: ColumnKey | list[ColumnKey] | None,
    split: ColumnKey | None,
    group: ColumnKey | None,
    id: str | None,
    header: bool | Literal["auto"],
    delimiter: str | None,
    missing_values: list[str | int | float],
    encoding: str,
    **keys: Unpack[TextFileKeys],
) -> Data:
    """Read texts as sequences of tokens, each with a class, labels or values.

    Raises:
        ConfigError: as ``find_texts`` and ``token_data``.
    """
    problems = Problems("text", keys["on_error"], options.report_all)
    of_targets = TargetKeys(
        task=keys["task"], normalise_targets=keys["normalise_targets"], label_separator=keys["label_separator"]
    )
    columns = TextColumns(
        input, target, header, delimiter, missing_values, group, Labelling(of_targets), id=id, split=split
    )
    if options.preprocessing is not None and target is None:
        columns.target = options.preprocessing.get("target")
        columns.inputs[:] = options.preprocessing.get("input") or []
    found = find_texts("text", keys["path"], columns, encoding, problems, options.classes)
    data = token_data(seed, found, options, problems, columns.labelling, **cast(TextKeys, keys))
    if not columns.labelling.names:
        if group is not None:
            raise ConfigError(f"dataset.group: {group}: is a column of a table, and dataset.path holds none")
        return data
    named = options.preprocessing.get("id") if options.preprocessing is not None else columns.id
    about = {"input": columns.inputs, "target": [*columns.labelling.names], "id": named}
    return replace(data, preprocess={**data.preprocess, **about})
