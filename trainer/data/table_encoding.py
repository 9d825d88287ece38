"""The encoding of table rows: scaled numbers, marks of missing cells, one-hot categories and cyclic parts of dates."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import torch
from torch import Tensor

ColumnKind = Literal["number", "category", "date", "text"]

OTHER, MISSING = -1.0, -2.0  # codes of a cell with a rare or unknown level, and of a missing one
CLIP = 3.0  # scaled numbers stay between -CLIP and CLIP
FARTHEST = 1e15  # the square of a scaled number beyond 1e19 is infinite
YEAR, WEEK, DAY = 365.2425, 7.0, 1.0  # the periods of dates, in days


@dataclass(frozen=True)
class EncodedColumn:
    """How a column is encoded; everything is measured on train.

    A raw row holds one float32 number for a column: the number itself, the days since an origin for a date, the index
    of the level for a category, ``OTHER`` for a level that is not listed, and NaN for a missing cell. A text has one
    number for each of its words: 1 if the text contains the word, else 0.

    Args:
        name: the name of the column.
        kind: what the column holds.
        centre, scale: of numbers and dates: the median, and the factor after it is subtracted.
        fill: of numbers and dates: what replaces a missing number.
        edges: of numbers and dates: quantiles that divide them into bins, see ``Spec.edges``.
        missing: whether a feature marks missing cells.
        levels: the levels of a category, or the words of a text.
        other: of a category: whether a feature marks the levels that are not listed.
        periods: of a date: the periods in days for which there are two features, a sine and a cosine.
        origin: of a date: the day from which the days count, in days since 1970-01-01; 0 for times of the day.
    """

    name: str
    kind: ColumnKind = "number"
    centre: float = 0.0
    scale: float = 1.0
    fill: float = 0.0
    edges: tuple[float, ...] = ()
    missing: bool = False
    levels: tuple[str, ...] = ()
    other: bool = False
    periods: tuple[float, ...] = ()
    origin: float = 0.0

    @property
    def raw_width(self) -> int:
        """The number of values of a raw row that belong to the column."""
        return len(self.levels) if self.kind == "text" else 1

    @property
    def codes(self) -> list[float]:
        """The raw values that have a one-hot feature each."""
        marks = [*[OTHER] * self.other, *[MISSING] * self.missing]
        return [*map(float, range(len(self.levels))), *marks] if self.kind == "category" else marks

    @property
    def is_number(self) -> bool:
        """Whether the column has a feature that is a scaled number."""
        return self.kind in ("number", "date")

    def shown(self, value: float) -> str:
        """Return the cell that a value of a raw row stands for, as text; for words see ``TableEncoding.texts``."""
        if math.isnan(value):
            return "missing"
        if self.kind == "category":
            return self.levels[int(value)] if value >= 0 else "another level"
        if self.kind == "date":
            moment = datetime(1970, 1, 1) + timedelta(days=self.origin + value)
            return str(moment.time() if not self.origin else moment).removesuffix(" 00:00:00")[:16]
        return f"{value:.4g}"


@dataclass(frozen=True)
class TableEncoding:
    """Encode raw rows as features for a model: first all scaled numbers, then one block of features after another.

    A number x becomes z / sqrt(1 + (z / 3)²) with z = (x - centre) * scale, the robust scaling with a smooth clip of
    Holzmüller et al. 2024. A block has the one-hot levels of a category and the mark of its missing cells, the mark of
    the missing cells of a number, the sine and cosine of the periods of a date, or the words of a text.

    Args:
        columns: how each column is encoded.
        number_at: (numbers,) int64, the place in a raw row of each number.
        centre, scale, fill: (numbers,) float32.
        level_at: (levels,) int64, the place in a raw row of the code of each one-hot feature.
        level: (levels,) float32, the code that the feature marks.
        wave_at: (waves,) int64, the place in a raw row of the date of each cyclic feature.
        frequency, phase: (waves,) float32, in radians for each day, and in radians.
        word_at: (words,) int64, the place in a raw row of each word of a text.
        order: (blocks,) int64, the order of the block features among one-hot levels, cyclic features and words.
    """

    columns: tuple[EncodedColumn, ...]
    number_at: Tensor
    centre: Tensor
    scale: Tensor
    fill: Tensor
    level_at: Tensor
    level: Tensor
    wave_at: Tensor
    frequency: Tensor
    phase: Tensor
    word_at: Tensor
    order: Tensor

    @classmethod
    def of(cls, columns: Sequence[EncodedColumn]) -> TableEncoding:
        """Return the encoding of columns, in the order of a raw row."""
        ends = [*itertools.accumulate(each.raw_width for each in columns)]
        starts = [end - each.raw_width for end, each in zip(ends, columns, strict=True)]
        numbers = [(start, each) for start, each in zip(starts, columns, strict=True) if each.is_number]
        levels, waves, words = list[tuple[int, float]](), list[tuple[int, float, float]](), list[int]()
        kinds = list[int]()  # 0, 1 or 2 for each block feature
        for start, each in zip(starts, columns, strict=True):
            periods = [2 * math.pi / period for period in each.periods]
            own_waves = [(start, frequency, phase) for frequency in periods for phase in (0.0, math.pi / 2)]
            own_words = [start + at for at in range(each.raw_width)] if each.kind == "text" else []
            levels += [(start, code) for code in each.codes]
            waves += own_waves
            words += own_words
            kinds += [0] * len(each.codes) + [1] * len(own_waves) + [2] * len(own_words)
        offsets, order = [0, len(levels), len(levels) + len(waves)], list[int]()
        for kind in kinds:
            order.append(offsets[kind])
            offsets[kind] += 1
        return cls(
            tuple(columns),
            number_at=_whole([start for start, _ in numbers]),
            centre=torch.tensor([each.centre for _, each in numbers]),
            scale=torch.tensor([each.scale for _, each in numbers]),
            fill=torch.tensor([each.fill for _, each in numbers]),
            level_at=_whole([start for start, _ in levels]),
            level=torch.tensor([code for _, code in levels]),
            wave_at=_whole([start for start, _, _ in waves]),
            frequency=torch.tensor([frequency for _, frequency, _ in waves]),
            phase=torch.tensor([phase for _, _, phase in waves]),
            word_at=_whole(words),
            order=_whole(order),
        )

    @property
    def width(self) -> int:
        """The number of features of a row."""
        return len(self.number_at) + len(self.order)

    @property
    def raw_width(self) -> int:
        """The number of values of a raw row."""
        return sum(each.raw_width for each in self.columns)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of features of each block, in order; see ``Spec.blocks``."""
        sizes = [_block_width(each) for each in self.columns]
        return tuple(size for size in sizes if size)

    @property
    def edges(self) -> tuple[tuple[float, ...], ...]:
        """The edges of the bins of each number; see ``Spec.edges``."""
        return tuple(each.edges for each in self.columns if each.is_number)

    @property
    def owners(self) -> list[int]:
        """The index of the column to which each feature belongs."""
        numbers = [at for at, each in enumerate(self.columns) if each.is_number]
        return numbers + [at for at, each in enumerate(self.columns) for _ in range(_block_width(each))]

    @property
    def unused(self) -> list[str]:
        """The names of columns without a feature."""
        return [each.name for each in self.columns if not each.is_number and not _block_width(each)]

    @property
    def names(self) -> list[str]:
        """The name of each feature, such as ``age``, ``sex=male`` or ``age is missing``."""
        numbers = [each.name for each in self.columns if each.is_number]
        return numbers + [name for each in self.columns for name in _names_in_block(each)]

    def sum_by_column(self, values: Tensor) -> Tensor:
        """Return the sums of values of features over the features of each column: (…, width) becomes (…, columns)."""
        sums = values.new_zeros(*values.shape[:-1], len(self.columns))
        return sums.index_add_(values.ndim - 1, torch.tensor(self.owners, device=values.device), values)

    def texts(self, row: Tensor) -> list[str]:
        """Return the cell of each column of a raw row, (raw width,), as text."""
        sizes = [each.raw_width for each in self.columns]
        return [cell_text(each, values) for each, values in zip(self.columns, row.split(sizes), strict=True)]

    def to(self, device: torch.device) -> TableEncoding:
        moved: dict[str, Any] = {
            key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **moved)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the features of raw rows: (…, raw width) of any dtype becomes (…, width) float32."""
        axis, rows = rows.ndim - 1, rows.float()
        numbers = rows.index_select(axis, self.number_at)
        scaled = scale_numbers(torch.where(numbers.isnan(), self.fill, numbers), self.centre, self.scale)
        if not len(self.order):
            return scaled
        codes = torch.where(rows.isnan(), MISSING, rows).index_select(axis, self.level_at)
        parts = [(codes == self.level).float()]
        if len(self.wave_at):
            days = rows.index_select(axis, self.wave_at)
            parts.append((days * self.frequency + self.phase).sin().nan_to_num(0.0))
        if len(self.word_at):
            parts.append(rows.index_select(axis, self.word_at))
        blocks = torch.cat(parts, dim=axis)
        if len(parts) > 1:
            blocks = blocks.index_select(axis, self.order)
        return torch.cat([scaled, blocks], dim=axis)

    def preprocessing(self) -> dict[str, Any]:
        """Return the arguments of ``restore_encoding``, as plain types."""
        defaults = {each.name: each.default for each in dataclasses.fields(EncodedColumn)}
        plain = [dataclasses.asdict(each) for each in self.columns]
        return {
            "name": "table",
            "columns": [
                {
                    key: list(value) if isinstance(value, tuple) else value
                    for key, value in each.items()
                    if value != defaults[key]
                }
                for each in plain
            ],
        }


def scale_numbers(numbers: Tensor, centre: Tensor | float, scale: Tensor | float) -> Tensor:
    """Return numbers with the robust scaling and the smooth clip that ``TableEncoding`` describes."""
    scaled = ((numbers - centre) * scale).clamp(-FARTHEST, FARTHEST)
    return scaled / (1 + (scaled / CLIP).square()).sqrt()


def restore_encoding(saved: Mapping[str, Any]) -> TableEncoding:
    """Return the encoding whose method ``preprocessing`` returned ``saved``."""
    columns: list[dict[str, Any]] = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in each.items()}
        for each in saved["columns"]
    ]
    return TableEncoding.of([EncodedColumn(**each) for each in columns])


def cell_text(column: EncodedColumn, values: Tensor) -> str:
    """Return the cell of a column as text; the values are those of a raw row that belong to the column."""
    if column.kind == "text":
        return " ".join(word for word, there in zip(column.levels, values.tolist(), strict=True) if there)
    return column.shown(float(values))


def _names_in_block(column: EncodedColumn) -> list[str]:
    levels = [f"{column.name}={level}" for level in column.levels]
    marks = [f"{column.name}=other"] * column.other + [f"{column.name} is missing"] * column.missing
    periods = [f"{column.name} {wave} of {period:g} days" for period in column.periods for wave in ("sine", "cosine")]
    return [*(levels if column.kind in ("category", "text") else []), *marks, *periods]


def _block_width(column: EncodedColumn) -> int:
    words = column.raw_width if column.kind == "text" else 0
    return len(column.codes) + 2 * len(column.periods) + words


def _whole(numbers: Sequence[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)
