"""The user's own texts: in columns of a table, in one file for each class, or in one folder for each class."""

from __future__ import annotations

from typing import Literal

from typing_extensions import Unpack

from trainer.data import Data, ReadOptions
from trainer.data.readers.files import Problems
from trainer.data.readers.table_layout import ColumnKey
from trainer.data.readers.text_folders import find_texts
from trainer.data.readers.texts import TextColumns
from trainer.data.readers.tokens import TextKeys, token_data
from trainer.dataset import DATASETS


@DATASETS.register
def text(
    seed: int,
    options: ReadOptions,
    *,
    input: ColumnKey | list[ColumnKey] | None,
    target: ColumnKey | None,
    header: bool | Literal["auto"],
    delimiter: str | None,
    encoding: str,
    **keys: Unpack[TextKeys],
) -> Data:
    """Read texts as sequences of tokens, each with a class.

    Raises:
        ConfigError: as ``find_texts`` and ``token_data``.
    """
    problems = Problems("text", keys["on_error"], options.report_all)
    columns = TextColumns(input, target, header, delimiter)
    found = find_texts("text", keys["path"], columns, encoding, problems)
    return token_data(seed, found, options, problems, **keys)
