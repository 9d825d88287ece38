"""Check the values in a checkpoint that are no tensors: their types and ranges. Imports no torch.

The readers of a checkpoint use these values as sizes and limits. A wrong type would be an internal error far away from
the file, and a wrong size could fill the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from trainer.config import NonNegativeInt, PositiveInt
from trainer.config.errors import printable
from trainer.spec import Kind, Task

MAX_SUBWORD = 100  # letters
Text = Annotated[str, Meta(max_length=10_000)]


class _AnyFeatures(TypedDict):
    name: Literal["logmel", "raw"]
    sample_rate: Annotated[int, Meta(ge=1, le=10_000_000)]
    hop: Annotated[int, Meta(ge=1, le=10_000_000)]


class _Features(_AnyFeatures, total=False):
    """The arguments of ``trainer.data.audio.make_features``, within the limits of the keys of ``dataset``."""

    window: Annotated[int, Meta(ge=1, le=2**19)]
    bands: Annotated[int, Meta(ge=1, le=1024)]


class _Form(TypedDict):
    """How a column writes numbers: the arguments of ``trainer.data.readers.tables.number_cells.NumberForm``."""

    kind: Literal["number", "bool", "date"]
    decimal: Literal[".", ","]
    grouped: bool
    sign: Annotated[str, Meta(max_length=4)]


class _OfOrder(_Form, total=False):
    """The arguments that earlier versions did not have."""

    order: Literal["year", "day", "month", "time"]
    origin: float


class _Column(TypedDict, total=False):
    """The arguments of ``trainer.data.table_encoding.EncodedColumn`` that differ from the defaults."""

    name: Text
    kind: Literal["number", "category", "date", "text"]
    centre: float
    scale: float
    fill: float
    edges: Annotated[list[float], Meta(max_length=1000)]
    missing: bool
    levels: Annotated[list[Text], Meta(max_length=1000)]
    other: bool
    periods: Annotated[list[Annotated[float, Meta(gt=0)]], Meta(max_length=3)]
    origin: float


class _Normalise(TypedDict, total=False):
    """The result of ``preprocessing`` of ``Normalise``, or of ``TableEncoding``."""

    mean: Annotated[list[float], Meta(min_length=1)]
    std: Annotated[list[float], Meta(min_length=1)]
    axis: Annotated[int, Meta(ge=1, le=3)]
    columns: Annotated[list[_Column], Meta(min_length=1)]


class _Data(TypedDict, total=False):
    """The result of ``Data.preprocessing``, of any version and kind of data; unknown entries are allowed."""

    kind: Kind
    task: Task
    shape: Annotated[list[PositiveInt], Meta(min_length=1, max_length=3)]
    varying: bool
    classes: Annotated[list[Text], Meta(min_length=1)]
    counts: list[NonNegativeInt]
    target_mean: list[float]
    target_std: list[float]
    num_tokens: PositiveInt | None
    features: _Features | None
    normalise: _Normalise | None
    top: Annotated[float, Meta(gt=0)]
    vocabulary: list[str]
    tokens: Literal["words", "characters", "subwords"]
    token_rules: Literal[1, 2]
    merges: list[Annotated[list[NonNegativeInt], Meta(min_length=2, max_length=2)]]
    lowercase: bool
    max_length: PositiveInt | None
    sample_rate: PositiveInt
    max_samples: PositiveInt
    fine: bool
    columns: list[str]
    fill: list[float] | None
    target: list[Text]
    id: Text | None
    forms: list[_OfOrder | None]


class _Evaluation(TypedDict, total=False):
    step: NonNegativeInt
    epoch: NonNegativeInt | None


class _Progress(TypedDict, total=False):
    """The state of ``trainer.checkpoint.Progress``, of any version."""

    step: NonNegativeInt
    epoch: NonNegativeInt
    batch: NonNegativeInt
    evaluated: NonNegativeInt
    logged: NonNegativeInt
    waited: NonNegativeInt
    skipped: NonNegativeInt
    skipped_in_a_row: NonNegativeInt
    best: _Evaluation
    last: _Evaluation


class _Content(TypedDict, total=False):
    """What every checkpoint holds besides the states of the model, the optimizer and the other parts."""

    step: NonNegativeInt
    total_steps: NonNegativeInt
    processes: PositiveInt
    fingerprint: dict[str, int | Text]
    data: _Data
    progress: _Progress


def fault(state: Mapping[Any, Any]) -> str:
    """Return the first value of a checkpoint that has a wrong type or is out of range, and why; empty if all fit.

    A missing value is no fault: an earlier version did not save it, and the reader says so.
    """
    try:
        msgspec.convert({key: state[key] for key in _Content.__annotations__ if key in state}, _Content)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        return printable(f"{place.rstrip('`') or 'content'}: {reason}".replace("`", ""))
    data = state.get("data", {})
    return _fault_of_normalise(data.get("normalise")) or _fault_of_subwords(data)


def _fault_of_normalise(found: Mapping[str, Any] | None) -> str:
    """Return which entry the normalisation lacks; empty if it is complete, or if there is none."""
    if found is None:
        return ""
    if "columns" in found:
        unnamed = any("name" not in column for column in found["columns"])
        return "data.normalise.columns: Object missing required field name" if unnamed else ""
    missing = next((key for key in ("mean", "std", "axis") if key not in found), "")
    return f"data.normalise: Object missing required field {missing}" if missing else ""


def _fault_of_subwords(data: Mapping[str, Any]) -> str:
    """Return why the library of the subwords could not put them together; empty if it can."""
    if "merges" not in data:
        return ""
    names: list[str] = data.get("vocabulary", [])
    known = set(names)
    if len(known) < max(len(names), 2) or max(map(len, names)) > MAX_SUBWORD:
        return f"data.vocabulary: must have different subwords of at most {MAX_SUBWORD} letters"
    for pair in data["merges"]:
        if max(pair) >= len(names) or "".join(names[number] for number in pair) not in known:
            return f"data.merges: {pair}: is no subword of the vocabulary"
    return ""
