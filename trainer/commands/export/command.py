"""The command ``trainer export``: write the model of a run to a file for other programs.

This module does not import torch, so that help and error messages appear without delay.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands._arguments import add_checkpoint, describe, parted, tolerance_of
from trainer.commands.text_table import print_lines
from trainer.config import ConfigError, RunError
from trainer.config.messages import did_you_mean
from trainer.config.terminal import loading
from trainer.runs.read import run_named

if TYPE_CHECKING:
    from trainer.commands.export.formats import Exported
    from trainer.commands.opened_run import OpenedRun
    from trainer.data.sources import Inputs

FORMATS = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
MAX_NAMES = 5  # maximum number of class names in the report
ON_CPU = ("device=cpu", "precision=fp32")

EPILOG = """\
A RUN is a run directory, or last. The formats are onnx (for onnxruntime and other programs), torch (a .pt2 file for
torch.export.load) and safetensors (the weights, and a .json file that describes them). A file of the first two takes
raw samples (pixels, numbers, waves or token numbers) and returns probabilities or values: the file does all numerical
preprocessing, and its metadata hold the class names, the thresholds of labels, the vocabulary and the rest. Batches may
have any size, and samples any length if lengths varied in training. Before a file is kept, its runtime computes the
scores of samples of the test split, which must be those of the model.
A WORD is an override that still applies after training: dataset.path=… (if the data have moved), thresholds=0.5,
plugins=[…].
examples:
  trainer export last
  trainer export outputs/2026-11-25/04-46-47-cnn-digits --format onnx,torch,safetensors
  trainer export last -o digits.pt2
exit code: 0 done, 1 the model cannot be exported or the scores differ, 2 the command is wrong or the run unusable."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    does = "Write the model of a run to a file for other programs, and check that the file computes the same scores."
    describe(parser, does, EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or last")
    parser.add_argument("words", nargs="*", metavar="WORD", help="an override, such as dataset.path=…")
    parser.add_argument("--format", metavar="F,F", help="onnx, torch, safetensors, or several with commas (onnx)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file to write (RUN/export/model.onnx, .pt2, .safetensors)"
    )
    parser.add_argument(
        "--tolerance",
        metavar="T",
        default="1e-5",
        help="the largest difference of scores that is accepted (%(default)s)",
    )
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export the model, print a report, and return the exit code, 0.

    Raises:
        ConfigError: the command is wrong, the run or its data cannot be used, or a library is missing.
        RunError: the model cannot be exported, or the scores of an exported file differ from those of the model.
    """
    names, words = parted(arguments.words)
    if arguments.run is None or names:
        got = f", got {names[0]} too" if names else ", as in trainer export last"
        raise ConfigError(f"export: needs one RUN{got}")
    output = None if arguments.output is None else Path(arguments.output)
    forms = _formats(arguments.format, output)
    tolerance = tolerance_of(arguments.tolerance)
    foreign = [word for word in words if word.split("=")[0] in ("device", "precision") and word not in ON_CPU]
    if foreign:
        raise ConfigError(f"{foreign[0]}: a file is made on the CPU, in fp32")
    found = run_named(arguments.run)
    folder = found.path / "export"
    if output is None and not folder.resolve().is_relative_to(found.path.resolve()):
        raise ConfigError(f"{folder}: is a link out of the run directory; name a file with -o FILE")
    paths = {form: output or folder / f"model{FORMATS[form]}" for form in forms}
    with loading():
        from trainer.commands.export import formats
        from trainer.commands.opened_run import notes, open_run

    for form in forms:
        formats.need_libraries(form)
    trained = open_run(
        found, checkpoint=arguments.checkpoint, words=[*{**dict.fromkeys(words), **dict.fromkeys(ON_CPU)}]
    )
    warnings = [*notes(trained)]
    if (precision := found.config.get("precision")) not in (None, "auto", "fp32"):
        warnings.append(f"the run computed in {precision}; the file computes in fp32")
    print_lines(
        [f"run      {found.path}  (weights of step {trained.step})", *(f"warning  {each}" for each in warnings)]
    )
    batches = _check_batches(trained)
    with _folder(folder) if output is None else contextlib.nullcontext():
        for form, path in paths.items():
            formats.check_place(path, form)
        for form, path in paths.items():
            exported = formats.export(trained, batches, form, path, tolerance)
            print_lines(_report(trained, form, path, exported, sum(len(batch[0]) for batch in batches)))
    return 0


def _formats(typed: str | None, output: Path | None) -> list[str]:
    by_name = None if output is None else {suffix: form for form, suffix in FORMATS.items()}.get(output.suffix.lower())
    if typed is None:
        if output is not None and by_name is None:
            raise ConfigError(
                f"--output: {output}: must end in {', '.join(FORMATS.values())}, or --format must be given"
            )
        return [by_name or "onnx"]
    forms = list(dict.fromkeys(each.strip() for each in typed.split(",") if each.strip()))
    for form in forms:
        if form not in FORMATS:
            near = did_you_mean(form, FORMATS) or ";"
            raise ConfigError(f"--format: {form}: no such format{near} formats: {', '.join(FORMATS)}")
    if not forms:
        raise ConfigError(f"--format: names no format; formats: {', '.join(FORMATS)}")
    if output is not None and len(forms) > 1:
        raise ConfigError(f"--output: {output}: one file cannot be {' and '.join(forms)}; leave --output out")
    if by_name not in (None, forms[0]):
        raise ConfigError(f"--output: {output}: ends as {by_name} does, but --format is {forms[0]}")
    return forms


def _check_batches(trained: OpenedRun) -> list[Inputs]:
    """Return samples with which a file is checked. Bad samples are left out with a warning, as a file needs none."""
    from trainer.commands.export.formats import check_batches

    try:
        return check_batches(trained.data())
    except (ConfigError, RunError):  # such as a picture that cannot be read
        data = trained.data(skip_bad=True)
        batches = check_batches(data)
        print_lines(f"warning  {line}" for line in data.warnings)
        return batches


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Create a folder, and remove it at the end if it is empty."""
    path.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()


def _report(trained: OpenedRun, form: str, path: Path, found: Exported, num_samples: int) -> Iterator[str]:
    from trainer.commands.export.metadata import describe_inputs, describe_scores
    from trainer.metrics import shown_thresholds

    spec = trained.spec
    opset = "" if found.opset is None else f", opset {found.opset}"
    yield f"export   {path}  ({form}, {path.stat().st_size / 2**10:,.0f} KiB{opset})"
    if form != "safetensors":
        for each in describe_inputs(trained):
            yield f"{each['name']:<8} {each['dtype']} ({', '.join(map(str, each['shape']))}), {each['meaning']}"
        classes = ", ".join(spec.classes[:MAX_NAMES]) + ", …" * (len(spec.classes) > MAX_NAMES)
        real = "float64" if spec.needs_float64 else "float32"
        yield f"outputs  scores {real} (batch, {len(spec.classes)}): {describe_scores(trained)} of {classes}"
    if trained.temperature is not None:
        yield f"scores   calibrated on val: logits / {trained.temperature:.4g}"
    if trained.thresholds:
        yield f"labels   predicted above {shown_thresholds(spec.classes, trained.thresholds)}"
    unit = " standard deviations" if spec.task == "regression" and spec.target_std else ""
    yield f"checked  {num_samples:,} samples in {found.runtime}: largest difference {found.difference:.1e}{unit}"
