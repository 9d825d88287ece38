"""The HTML page about a data set: statistics, findings, and samples with and without augmentation."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from markupsafe import Markup
from torch import Tensor

from trainer.commands.pages.render import render
from trainer.commands.pages.samples import draw_samples, find_value_range
from trainer.data import Data, Split
from trainer.data.checks import Survey
from trainer.data.findings import target_text
from trainer.data.preprocess import Preprocess
from trainer.data.sources import Inputs
from trainer.data.statistics import readable_batches

MAX_COLUMNS = 200  # maximum number of columns of a table on the page
MAX_CLASSES = 20  # maximum number of classes with samples on the page
PER_CLASS = 6  # number of samples of each class
MAX_SAMPLES = 24  # number of samples if the task is not classification


def make_page(data: Data, survey: Survey, seed: int) -> str:
    """Return the page as HTML; ``seed`` is that of the augmentation."""
    warnings = survey.num_warnings
    is_augmented = any(each is not None for each in (data.augment, data.augment_features, data.mix))
    num_classes = len(data.spec.classes) if data.spec.task == "classification" else 0
    return render(
        "data.html",
        command="data",
        title=survey.spec.dataset,
        survey=survey,
        verdict="Nothing to be acted on was found." if warnings == 0 else f"{warnings} to be acted on:",
        numbers=[*_list_numbers(survey)],
        classes=[*_count_classes(survey)],
        columns=[[each.name, each.kind, f"{each.missing:,}", each.content] for each in survey.columns[:MAX_COLUMNS]],
        num_more_columns=max(0, len(survey.columns) - MAX_COLUMNS),
        noun="class" if survey.spec.task == "classification" else "label",
        is_augmented=is_augmented,
        samples=[
            (name, _draw(data, survey, split, None), _draw(data, survey, split, seed) if is_augmented else [])
            for name, split in _choose(data)
        ],
        num_more=max(0, num_classes - MAX_CLASSES),
    )


def _list_numbers(survey: Survey) -> Iterator[list[str]]:
    """Yield the rows of the first table: a title, and a cell for each split."""
    parts = survey.parts.values()
    yield ["samples", *(f"{part.samples:,}" for part in parts)]
    names = {
        "least steps": "least",
        "half have at most": "median",
        "95 % have at most": "most",
        "most steps": "longest",
    }
    for title, attribute in names.items():
        lengths = [part.lengths for part in parts]
        if lengths[0] is not None:
            yield [title, *(f"{getattr(each, attribute):,}" for each in lengths)]
    for at, value in enumerate(survey.spec.classes if survey.spec.task == "regression" else ()):
        targets = [part.targets[at] for part in parts]
        text = functools.partial(survey.spec.value_text, at)
        yield [f"{value}: mean", *(text(each.mean) for each in targets)]
        yield [f"{value}: range", *(f"{text(each.least)} to {text(each.most)}" for each in targets)]


def _count_classes(survey: Survey) -> Iterator[tuple[str, list[str], str]]:
    """Yield for each class its name, its number of samples in each split, and the length of its bar in percent."""
    counts = survey.parts["train"].counts
    largest = max(*counts, 1) if counts else 1
    for at, (name, count) in enumerate(zip(survey.spec.classes, counts, strict=False)):
        yield name, [f"{part.counts[at]:,}" for part in survey.parts.values()], f"{100 * count / largest:.1f}"


def _choose(data: Data) -> Iterator[tuple[str, Split]]:
    """Yield (class name, training samples), evenly spaced over the samples of this class.

    If the task is not classification, yield once, with an empty name and samples evenly spaced over the whole split.
    """
    if data.spec.task != "classification":
        yield "", _readable(data.train.take(_spread(torch.arange(len(data.train)), MAX_SAMPLES)))
        return
    for number, name in enumerate(data.spec.classes[:MAX_CLASSES]):
        members = (data.train.targets == number).nonzero().flatten()
        if len(members):
            yield name, _readable(data.train.take(_spread(members, PER_CLASS)))


def _readable(split: Split) -> Split:
    """Return the samples that can be read; the findings name the others."""
    return split.take(torch.cat([torch.arange(0), *(numbers for numbers, _ in readable_batches(split, []))]))


def _spread(numbers: Tensor, most: int) -> Tensor:
    count = min(most, len(numbers))
    return numbers[torch.arange(count) * len(numbers) // count]


def _draw(data: Data, survey: Survey, split: Split, seed: int | None) -> list[tuple[Markup, str]]:
    """Return a drawing and a caption for each sample; with a seed, samples are augmented as in the first epoch."""
    inputs, targets = _read(data, split, seed)
    if seed is not None and data.mix is not None:
        captions = [_describe_mixed(data, target) for target in targets]
    elif data.spec.task == "classification":
        captions = [""] * len(targets)
    else:
        captions = [target_text(data.spec, target) for target in split.targets]
    return [*zip(draw_samples(data, inputs, find_value_range(survey)), captions, strict=True)]


def _read(data: Data, split: Split, seed: int | None) -> tuple[Inputs, Tensor]:
    """Return the model inputs and the targets of a split; with a seed, augmented and mixed as in the first epoch."""
    positions, source = split.positions, split.source
    preprocess = Preprocess(data, data.train.positions, seed, torch.device("cpu"))
    inputs, targets = preprocess(source.fetch(positions), positions, 0), split.targets
    partners = preprocess.partners(positions, 0)
    if partners is not None:
        others = preprocess(source.fetch(partners), partners, 0)
        inputs = preprocess.mixed(inputs, others, positions, 0)
        targets = preprocess.mixed_targets(targets, source.targets.index_select(0, partners), positions, 0)
    return inputs, targets


def _describe_mixed(data: Data, target: Tensor) -> str:
    """Return a caption for a mixed sample: its classes with their weights, or its values."""
    if data.spec.task == "regression":
        return target_text(data.spec, target)
    largest = target.argsort(descending=True)[:2].tolist()
    return ", ".join(f"{data.spec.classes[at]} {float(target[at]):.2f}" for at in largest if target[at] > 0)
