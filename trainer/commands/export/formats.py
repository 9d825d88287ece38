"""Export a trained model to a file, and keep the file only if the runtime of its format computes the model's scores."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer import __version__
from trainer.build import build_model
from trainer.commands.export.layers import ExportedModel
from trainer.commands.export.metadata import MARK, as_strings, longest, metadata
from trainer.commands.opened_run import OpenedRun
from trainer.config import ConfigError, RunError
from trainer.config.errors import one_line
from trainer.config.messages import how_to_install
from trainer.data import Data
from trainer.data.audio import as_wave
from trainer.data.data import spec_of
from trainer.data.sources import Inputs
from trainer.runs import atomic_files
from trainer.runs.read import for_json

MAX_CHECKED = 64  # maximum number of samples whose scores are compared
MAX_LETTERS = 300  # maximum length of the message of an exporter or a runtime
ENDS = (1, 3, 16, 32, 48)  # where the samples are split into batches, whose sizes should differ from ``TRACED``
# Lengths that a file accepts. torch 2.10 limits the convolutions that it traces to 2**31 values of a sample.
MAX_STEPS, MAX_SAMPLES = 2**20, 2**26
TRACED = 3  # batch size of the inputs with which the model is traced

Scorer = Callable[[Inputs], Tensor]  # computes the scores of a batch from a file


class Exported(NamedTuple):
    """What is known of an exported file."""

    opset: int | None  # the opset version of ONNX; None for the other formats
    runtime: str  # the name and version of the program that computed the scores, such as ``onnxruntime 1.32.0``
    difference: float  # as returned by ``largest_difference``


class Format(NamedTuple):
    """A file format.

    Args:
        write: writes the model of a run and the metadata to a path; returns the opset version for ONNX, else None.
        open: opens a file, and returns its scorer, and the name and version of its runtime.
        libraries: the optional libraries that the format needs.
    """

    write: Callable[[OpenedRun, dict[str, Any], Path], int | None]
    open: Callable[[OpenedRun, Path], tuple[Scorer, str]]
    libraries: tuple[str, ...] = ()


def need_libraries(form: str) -> None:
    """Raise a ConfigError if a library that a format needs is missing."""
    for name in FORMATS[form].libraries:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"--format {form}: needs {name} ({error}): {how_to_install('export')}") from error


def check_place(path: Path, form: str) -> None:
    """Check that exporting to a path, and for safetensors to its .json file, overwrites only files of this command.

    Raises:
        ConfigError: a file of another origin exists, or the file cannot be written.
    """
    for each in (path, _json_file(path)) if form == "safetensors" else (path,):
        size = each.stat().st_size if each.is_file() else 0
        atomic_files.check_ours("--output", each, MARK, within=size, what="no export")


def export(trained: OpenedRun, batches: Sequence[Inputs], form: str, path: Path, tolerance: float) -> Exported:
    """Export the model to a file, and keep the file only if its scores agree with those of the model.

    Args:
        trained: a run opened on the CPU in fp32.
        batches: raw samples from ``check_batches``.
        form: onnx, torch or safetensors.
        path: the file; its folder exists.
        tolerance: the largest accepted difference of scores.

    Raises:
        RunError: the model cannot be exported, the runtime cannot run the file, or the scores differ.
    """
    about = metadata(trained, form)
    found = Exported(None, "", 0.0)

    def fill(place: Path) -> None:
        nonlocal found
        with _quiet():
            opset = FORMATS[form].write(trained, about, place)
            scorer, runtime = FORMATS[form].open(trained, place)
            difference = largest_difference(trained, batches, scorer, runtime)
        if not difference <= tolerance:
            raise RunError(
                f"{path}: differs from the model by {difference:.1e} in {runtime}, more than {tolerance:g}; not kept"
            )
        found = Exported(opset, runtime, difference)

    atomic_files.write(path, fill)
    if form == "safetensors":
        text = json.dumps(for_json(about), ensure_ascii=False, indent=2)
        atomic_files.write_text(_json_file(path), text + "\n")
    return found


def _json_file(path: Path) -> Path:
    """Return the path of the .json file with the metadata of a safetensors file."""
    return path.with_suffix(".json")


# ---- the formats: write a file, and compute scores from it


def _traced(trained: OpenedRun) -> tuple[ExportedModel, Inputs, tuple[dict[int, Any], ...]]:
    """Return the module to export, a batch of zeros with which to trace it, and its dynamic shapes."""
    spec, is_wave = trained.spec, trained.features is not None
    module = ExportedModel(spec, trained.model, trained.loss, trained.features, trained.normalise).eval()
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps", max=MAX_STEPS)
    if is_wave:
        steps = torch.export.Dim("samples", max=MAX_SAMPLES)
    shape = [TRACED, *((0,) if is_wave else trained.raw_shape)]
    axis = 1 if is_wave else spec.step_axis
    if spec.varying:
        # Trace below the maximum length, at which the model might skip its padding.
        shape[axis] = max(TRACED + 1, longest(trained) - 1)
    inputs = torch.zeros(shape, dtype=torch.int64 if spec.kind == "tokens" else torch.float32)
    if not spec.varying:
        return module, (inputs,), ({0: batch},)
    return module, (inputs, torch.full((TRACED,), shape[axis])), ({0: batch, axis: steps}, {0: batch})


@contextlib.contextmanager
def _tracing(trained: OpenedRun, target: str) -> Iterator[None]:
    """Convert any exception that is raised while the model is traced into a RunError that names the innermost cause."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        model, reason = trained.settings.model["name"], one_line(cause, MAX_LETTERS)
        # torch 2.10 and 2.11 fix whether the number of steps before a pooling is even
        old = target == "torch.export" and trained.spec.varying and torch.__version__ < "2.13"
        remedy = "; torch 2.13 can export it, and so can ONNX: -o model.onnx" if old else ""
        raise RunError(f"model={model}: cannot be exported to {target}: {reason}{remedy}") from error


def _write_onnx(trained: OpenedRun, about: dict[str, Any], place: Path) -> int:
    module, inputs, sizes = _traced(trained)
    with _tracing(trained, "ONNX"):
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=["inputs", "lengths"][: len(inputs)],
            output_names=["scores"],
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export returns a program unless it is given a file")
    model = program.model
    for graph in (model.graph, *model.functions.values()):
        for node in graph:  # remove the paths of our source files
            node.metadata_props.clear()
            node.doc_string = None
    model.producer_name, model.producer_version = "trainer-cli", __version__
    model.metadata_props.update(as_strings(about))
    program.save(str(place), external_data=False)
    return int(model.opset_imports[""])


def _open_onnx(trained: OpenedRun, place: Path) -> tuple[Scorer, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(place), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def score(inputs: Inputs) -> Tensor:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(["scores"], arrays)[0])

    return score, f"onnxruntime {onnxruntime.__version__}"


def _write_torch(trained: OpenedRun, about: dict[str, Any], place: Path) -> None:
    module, inputs, sizes = _traced(trained)
    torch.compiler.reset()  # otherwise a cached trace of another model could fix the number of steps of a loop
    with _tracing(trained, "torch.export"), torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
    for graph in program.graph_module.modules():
        if isinstance(graph, torch.fx.GraphModule):
            for node in graph.graph.nodes:  # remove the paths of our source files
                node.meta.pop("stack_trace", None)
    with place.open("wb") as file:
        extra = {"metadata.json": json.dumps(for_json(about), ensure_ascii=False)}
        torch.export.save(program, file, extra_files=extra)


def _open_torch(trained: OpenedRun, place: Path) -> tuple[Scorer, str]:
    with place.open("rb") as file:
        module = torch.export.load(io.BytesIO(file.read())).module()

    @torch.inference_mode()
    def score(inputs: Inputs) -> Tensor:
        scores: Tensor = module(*inputs)
        return scores

    return score, f"torch.export of torch {torch.__version__}"


def _write_safetensors(trained: OpenedRun, about: dict[str, Any], place: Path) -> None:
    from safetensors.torch import save

    weights = {name: tensor.clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    place.write_bytes(save(weights, metadata=as_strings(about)))


def _open_safetensors(trained: OpenedRun, place: Path) -> tuple[Scorer, str]:
    """Load the weights into a new model that is built only from the metadata of the file."""
    import safetensors
    from safetensors.torch import load_file

    with safetensors.safe_open(place, "pt") as file:
        about = file.metadata()
    config = json.loads(about["config"])
    read = spec_of(json.loads(about["preprocessing"]), about["dataset"])
    model, loss, spec = build_model(config["model"], config["loss"], read)
    model.load_state_dict(load_file(place))
    loaded = dataclasses.replace(trained, spec=spec, loss=loss, model=model.eval())
    return loaded.scores, f"safetensors {safetensors.__version__}"


FORMATS = {
    "onnx": Format(_write_onnx, _open_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch": Format(_write_torch, _open_torch),
    "safetensors": Format(_write_safetensors, _open_safetensors),
}


# ---- the comparison


def check_batches(data: Data) -> list[Inputs]:
    """Return raw samples of the first split of test, val and train that is not empty, in batches of several sizes.

    If lengths vary, the first batch is the shortest sample, the second one contains the longest sample, and the lengths
    in the other batches are mixed.
    """
    split = next(part for part in (data.test, data.val, data.train) if part is not None and len(part))
    split = split.take(torch.linspace(0, len(split) - 1, min(MAX_CHECKED, len(split))).long())
    if split.lengths is not None and len(split) > 2:
        order = split.lengths.argsort(stable=True)
        mixed = torch.randperm(len(order) - 2, generator=torch.Generator().manual_seed(0)) + 1
        split = split.take(torch.cat([order[:1], order[-1:], order[mixed]]))
    return [split.source.fetch(part) for part in split.positions.tensor_split(ENDS) if len(part)]


def to_file_inputs(trained: OpenedRun, inputs: Inputs) -> Inputs:
    """Convert raw samples to the input dtypes of an exported file: int64 for tokens and lengths, float32 otherwise."""
    first, lengths = inputs[0], inputs[1:]
    if trained.features is not None:
        first = as_wave(first)
    first = first.long() if trained.spec.kind == "tokens" else first.float()
    return first, *(each.long() for each in lengths)


def largest_difference(trained: OpenedRun, batches: Sequence[Inputs], scorer: Scorer, runtime: str) -> float:
    """Return the largest absolute difference between the scores of an exported file and of the model; infinity for NaN.

    For regression, the unit of a difference is the standard deviation of the target.

    Raises:
        RunError: the runtime cannot run the file, or its scores have the wrong shape.
    """
    scale = torch.tensor(trained.spec.target_std or 1.0)
    largest = 0.0
    for batch in batches:
        wanted = trained.scores(batch)
        try:
            found = scorer(to_file_inputs(trained, batch))
        except Exception as error:  # the runtimes have no common class of errors
            size = "×".join(map(str, batch[0].shape))
            raise RunError(
                f"model={trained.settings.model['name']}: {runtime} cannot run it on a batch of {size}: "
                f"{one_line(error, MAX_LETTERS)}"
            ) from error
        if found.shape != wanted.shape:
            raise RunError(f"{runtime} returns {tuple(found.shape)}, the model {tuple(wanted.shape)}")
        difference = float(((found - wanted) / scale).abs().max())
        largest = max(largest, difference if difference == difference else float("inf"))
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the output, logs and warnings of exporters and runtimes, which report their errors as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
