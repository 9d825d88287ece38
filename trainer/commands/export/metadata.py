"""The metadata of an exported file: inputs, outputs, preprocessing inside and outside the file, and origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import torch

from trainer import __version__
from trainer.commands.opened_run import OpenedRun
from trainer.data.readers.texts.subwords import SPACE
from trainer.data.readers.texts.words import FIRST_WORDS
from trainer.data.table_encoding import OTHER, TableEncoding
from trainer.loss._quantiles import QuantileLoss
from trainer.runs.read import for_json

MARK = "trainer-cli export 1"  # in every exported file; only files with this mark are overwritten


def metadata(trained: OpenedRun, form: str) -> dict[str, Any]:
    """Return the metadata of an exported file of the given format, as plain types."""
    spec, inside, outside = trained.spec, _inside(trained), _outside(trained)
    scores = {
        "name": "scores",
        "dtype": "float64" if spec.needs_float64 else "float32",
        "shape": ["batch", len(spec.classes)],
        "meaning": describe_scores(trained),
    }
    about: dict[str, Any] = {
        "format": MARK,
        "task": spec.task,
        "kind": spec.kind,
        "dataset": spec.dataset,
        "classes": list(spec.classes),
        "inputs": describe_inputs(trained),
        "outputs": [scores],
        **({} if trained.temperature is None else {"temperature": trained.temperature}),
        **({"thresholds": list(trained.thresholds)} if trained.thresholds else {}),
        "inside": inside,
        "outside": outside,
        "preprocessing": dict(trained.preprocessing),
        "run": trained.run.path.resolve().name,
        "weights": trained.checkpoint.name,
        "step": trained.step,
        "trainer-cli": __version__,
        "torch": torch.__version__,
    }
    if form == "safetensors":  # the file has only weights; the program that loads them does the preprocessing
        about |= {"inside": [], "outside": [*outside, *inside]}
        about["config"] = {"model": trained.settings.model, "loss": trained.settings.loss}
    return about


def describe_scores(trained: OpenedRun) -> str:
    """Return what the scores are: values, the medians of a quantile loss, or probabilities."""
    if trained.spec.task != "regression":
        return "probabilities"
    return "medians" if isinstance(trained.loss, QuantileLoss) else "values"


def describe_inputs(trained: OpenedRun) -> list[dict[str, Any]]:
    """Return the name, dtype, shape and meaning of each input, and further facts such as its range or sample rate."""
    spec, preprocessing = trained.spec, trained.preprocessing
    top, columns, extra = preprocessing.get("top"), preprocessing.get("columns"), dict[str, Any]()
    shape: list[Any] = ["batch", *trained.raw_shape]
    if spec.varying:
        shape[spec.step_axis] = "steps"
    if trained.features is not None:
        rate, shape = preprocessing["sample_rate"], ["batch", "samples"]
        extra, meaning = {"sample_rate": rate}, f"waves of {rate:,} samples a second, 1 being full scale"
    elif spec.kind == "tokens":
        meaning = f"numbers of the {spec.vocabulary:,} tokens of the vocabulary, 0 being padding"
    elif top is not None:
        extra, meaning = {"range": [0, top]}, f"pixels, 0 to {top:g}"
    elif isinstance(trained.normalise, TableEncoding):
        meaning = "the cells of a row as numbers: see columns"
        columns = [*_describe_columns(trained.normalise)]
    elif columns:
        meaning = f"columns {', '.join(columns)}"
    else:
        meaning = "numbers as in training"
    dtype = "int64" if spec.kind == "tokens" else "float32"
    inputs = {"name": "inputs", "dtype": dtype, "shape": shape, "meaning": meaning, **extra}
    if columns:
        inputs["columns"] = columns
    if not spec.varying:
        return [inputs]
    inputs["longest"] = longest(trained)
    what = "steps" if trained.features is None else "samples"
    meaning = f"the number of {what} of each, 1 to {longest(trained):,}; padding behind them does not count"
    return [inputs, {"name": "lengths", "dtype": "int64", "shape": ["batch"], "meaning": meaning}]


def _describe_columns(encoding: TableEncoding) -> Iterator[dict[str, Any]]:
    """Yield how the cells of each column become numbers of a raw row; a missing cell is NaN."""
    for each in encoding.columns:
        about: dict[str, Any] = {"name": each.name, "kind": each.kind}
        if each.kind == "category":
            about |= {"codes": {level: code for code, level in enumerate(each.levels)}, "other": int(OTHER)}
        elif each.kind == "text":
            about |= {"words": list(each.levels), "meaning": "for each word 1 if the text in lower case has it, else 0"}
        elif each.kind == "date":
            origin = datetime(1970, 1, 1) + timedelta(days=each.origin)
            about["meaning"] = f"days since {origin:%Y-%m-%d}" if each.origin else "part of the day, 0 to 1"
        yield about


def longest(trained: OpenedRun) -> int:
    """Return the maximum length of a raw sample in training: a number of steps, or of audio samples for a wave."""
    if trained.features is not None:
        return int(trained.preprocessing["max_samples"])
    return trained.spec.shape[trained.spec.step_axis - 1]


def _inside(trained: OpenedRun) -> list[str]:
    """Return the processing steps, besides the model, that an exported ONNX or .pt2 file contains."""
    features = [] if trained.features is None else [f"features {trained.preprocessing['features']['name']}"]
    normalise = "encode" if isinstance(trained.normalise, TableEncoding) else "normalise"
    return [*features, *[normalise] * (trained.normalise is not None), "scores"]


def _outside(trained: OpenedRun) -> list[str]:
    """Return the preprocessing steps that the user of the file must apply to the inputs."""
    spec = trained.spec
    if spec.kind == "tokens":
        return _outside_text(trained.preprocessing)
    if trained.features is not None:
        return ["the mean of all channels, resampled to the sample rate"]
    if spec.kind == "image":
        return [f"pictures of {spec.shape[1]}×{spec.shape[2]} pixels and {spec.shape[0]} channels"]
    if isinstance(trained.normalise, TableEncoding):
        return ["the number of each cell, as columns of the input says; NaN for a missing cell"]
    return ["a number for each missing one: fill"] if trained.preprocessing.get("fill") else []


def _outside_text(preprocessing: Mapping[str, Any]) -> list[str]:
    """Return the steps from a text to token numbers."""
    number = "take the number of each token in the vocabulary, 1 if a token is not there"
    kind, rules = preprocessing.get("tokens"), preprocessing.get("token_rules", 1)
    if kind is None:
        return ["the numbers of the tokens"]
    steps = [] if rules == 1 else ["normalise the text to NFC"]
    if preprocessing["lowercase"]:
        steps.append("convert it to lower case" + ("" if rules == 1 else ", İ to i, and normalise it again"))
    cut = {
        "characters": "cut the text into characters",
        "words": f"cut the text into words and signs with the pattern {FIRST_WORDS.pattern}"
        if rules == 1
        else "cut the text at the word boundaries of Unicode Standard Annex #29, without spaces",
        "subwords": f"put {SPACE} before every word between spaces; cut out punctuation marks and <, each with the "
        f"{SPACE} before it; merge the letters of each piece by merges, the first pair first (byte-pair encoding)",
    }[kind]
    return [*steps, cut, number]


def as_strings(about: dict[str, Any]) -> dict[str, str]:
    """Return the metadata with all values as strings, which ONNX and safetensors require; other types become JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in for_json(about).items()
    }
