"""A trained model as a file for other programs, kept only once its own runtime answers from it as the model does."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import __version__
from trainer.commands.export.layers import Whole
from trainer.commands.opened_run import OpenedRun
from trainer.config import ConfigError, RunError
from trainer.config.messages import how_to_install
from trainer.data import Data, Split
from trainer.data.audio import as_wave
from trainer.data.data import Inputs, spec_of
from trainer.loss import LOSSES
from trainer.model import MODELS
from trainer.runs import atomic_files
from trainer.runs.read import for_json

MARK = "trainer-cli export 1"  # stands in every file, and tells one of ours
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
TOLERANCE = 1e-5  # of a probability, or in standard deviations of a value
MAX_CHECKED = 64  # samples
BATCHES = (1, 2, 13, 16, 16, 16)  # in which they are checked; none is as large as the one that is traced
TRACED = 3  # samples of that one

Run = Callable[[Inputs], Tensor]  # a file in its own runtime: from its inputs to (batch, scores)


@dataclass(frozen=True)
class Exported:
    """A file that was kept.

    Args:
        path: where it is.
        form: onnx, torch or safetensors.
        size: bytes.
        opset: of ONNX; None for the others.
        runtime: what has answered from it, such as ``onnxruntime 1.32.0``.
        samples: for how many.
        difference: the largest to the model's own scores, of a probability, or in standard deviations of a value.
    """

    path: Path
    form: str
    size: int
    opset: int | None
    runtime: str
    samples: int
    difference: float


def need_libraries(form: str) -> None:
    """Raises ConfigError where what a format needs is missing."""
    for name in NEEDS.get(form, ()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"--format {form}: needs {name} ({error}): {how_to_install('export')}") from error


def check_place(path: Path, form: str) -> None:
    """See that a file may be written: that nothing but one of ours is replaced, nor beside it.

    Raises:
        ConfigError: something else stands there, or it cannot be written.
    """
    for each in (path, _beside(path)) if form == "safetensors" else (path,):
        size = each.stat().st_size if each.is_file() else 0
        atomic_files.check_ours("--output", each, MARK, within=size, what="no export")


def export(trained: OpenedRun, batches: Sequence[Inputs], form: str, path: Path, tolerance: float) -> Exported:
    """Write a file, let its runtime answer from it, and keep it where the answers are the model's.

    Args:
        trained: on the CPU, in fp32.
        batches: of raw samples, as ``check_batches`` has them.
        form: onnx, torch or safetensors.
        path: in a folder that is there.
        tolerance: the largest difference that is none.

    Raises:
        RunError: the model cannot be exported, its runtime cannot run it, or it says something else; nothing is kept.
    """
    about = metadata(trained, form)
    opset, runtime, difference = None, "", 0.0

    def fill(place: Path) -> None:
        nonlocal opset, runtime, difference
        with _quiet():
            opset = _WRITERS[form](trained, about, place)
            run, runtime = _RUNTIMES[form](trained, place)
            difference = largest_difference(trained, batches, run, runtime)
        if not difference <= tolerance:
            raise RunError(
                f"{path}: differs from the model by {difference:.1e} in {runtime}, more than {tolerance:g}; not kept"
            )

    atomic_files.write(path, fill)
    if form == "safetensors":
        text = json.dumps(for_json(about), ensure_ascii=False, indent=2)
        atomic_files.write(_beside(path), lambda place: place.write_text(text + "\n", encoding="utf-8"))
    samples = sum(len(batch[0]) for batch in batches)
    return Exported(path, form, path.stat().st_size, opset, runtime, samples, difference)


def _beside(path: Path) -> Path:
    """The file that says what stands in one of weights alone."""
    return path.with_suffix(".json")


# ---- what a file says of itself


def metadata(trained: OpenedRun, form: str) -> dict[str, Any]:
    """What a file says of itself, as plain types: what goes in, what comes out, and how it was made."""
    spec, learned = trained.spec, dict(trained.learned)
    about: dict[str, Any] = {
        "format": MARK,
        "task": spec.task,
        "kind": spec.kind,
        "dataset": spec.dataset,
        "classes": list(spec.classes),
        "inputs": inputs_of(trained),
        "outputs": [
            {
                "name": "scores",
                "dtype": "float32",
                "shape": ["batch", len(spec.classes)],
                "meaning": "values" if spec.task == "regression" else "probabilities",
            }
        ],
        "inside": _inside(trained),
        "outside": _outside(trained),
        "preprocessing": learned,
        "run": trained.run.path.resolve().name,
        "weights": trained.checkpoint.name,
        "step": trained.step,
        "trainer-cli": __version__,
        "torch": torch.__version__,
    }
    if form == "safetensors":  # the weights alone: all else is done by who loads them
        settings = trained.settings
        about |= {"inside": [], "outside": [*about["outside"], *about["inside"]]}
        about["config"] = {"model": settings.model, "loss": settings.loss}
    return about


def inputs_of(trained: OpenedRun) -> list[dict[str, Any]]:
    """What goes in: the name, dtype, shape and meaning of each input."""
    spec, learned = trained.spec, trained.learned
    shape: list[Any] = ["batch", *spec.shape]
    if spec.varying:
        shape[spec.step_axis] = "steps"
    about: dict[str, Any] = {"name": "inputs", "dtype": "float32", "shape": shape, "meaning": _meaning(trained)}
    if spec.kind == "tokens":
        about["dtype"] = "int64"
    if trained.features is not None:
        about |= {"shape": ["batch", "samples"], "sample_rate": learned["sample_rate"]}
    elif learned.get("top") is not None:
        about["range"] = [0, learned["top"]]
    if learned.get("columns"):
        about["columns"] = list(learned["columns"])
    if not spec.varying:
        return [about]
    what = about["shape"][1] if trained.features is not None else "steps"
    most = longest(trained)
    about["longest"] = most
    meaning = f"how many {what} each has, 1 to {most:,}; what lies behind them does not count"
    return [about, {"name": "lengths", "dtype": "int64", "shape": ["batch"], "meaning": meaning}]


def longest(trained: OpenedRun) -> int:
    """Of raw samples whose steps vary, the most steps in training; of waves the most samples."""
    if trained.features is not None:
        return int(trained.learned["max_samples"])
    return trained.spec.shape[trained.spec.step_axis - 1]


def _meaning(trained: OpenedRun) -> str:
    spec, learned = trained.spec, trained.learned
    if trained.features is not None:
        return f"waves of {learned['sample_rate']:,} samples a second, 1 being full scale"
    if spec.kind == "tokens":
        return f"numbers of the {spec.vocabulary:,} tokens of the vocabulary, 0 being padding"
    if learned.get("top") is not None:
        return f"pixels, 0 to {learned['top']:g}"
    if learned.get("columns"):
        return f"columns {', '.join(learned['columns'])}"
    return "numbers as in training"


def _inside(trained: OpenedRun) -> list[str]:
    """What a file does besides the model."""
    done = [] if trained.features is None else [f"features {trained.learned['features']['name']}"]
    done += ["normalise"] if trained.normalise is not None else []
    return [*done, "scores"]


def _outside(trained: OpenedRun) -> list[str]:
    """What is to be done before."""
    spec, learned = trained.spec, trained.learned
    if spec.kind == "tokens":
        return ["cut the text into tokens, and take the number of each in the vocabulary, 1 where it has none"]
    if trained.features is not None:
        return ["the mean of all channels, resampled to the sample rate"]
    if spec.kind == "image":
        return [f"pictures of {spec.shape[1]}×{spec.shape[2]} pixels and {spec.shape[0]} channels"]
    return ["a number for each missing one: fill"] if learned.get("fill") else []


def _texts(about: dict[str, Any]) -> dict[str, str]:
    """The same for formats that know only texts: all that is none as JSON."""
    plain = for_json(about)
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in plain.items()
    }


# ---- writing


def _whole(trained: OpenedRun) -> tuple[Whole, Inputs, tuple[dict[int, Any], ...]]:
    """What is exported, zeros to trace it with, and which of their sizes are open."""
    spec = trained.spec
    whole = Whole(spec, trained.model, trained.loss, trained.features, trained.normalise).eval()
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps" if trained.features is None else "samples")
    shape = [TRACED, *(spec.shape if trained.features is None else (0,))]
    axis = spec.step_axis if trained.features is None else 1
    if spec.varying:
        # not the longest, at which the padding of a model may be nothing
        shape[axis] = max(TRACED + 1, longest(trained) - 1)
    inputs = torch.zeros(shape, dtype=torch.int64 if spec.kind == "tokens" else torch.float32)
    if not spec.varying:
        return whole, (inputs,), ({0: batch},)
    return whole, (inputs, torch.full((TRACED,), shape[axis])), ({0: batch, axis: steps}, {0: batch})


def _write_onnx(trained: OpenedRun, about: dict[str, Any], place: Path) -> int:
    whole, inputs, sizes = _whole(trained)
    try:
        program = torch.onnx.export(
            whole,
            inputs,
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=["inputs", "lengths"][: len(inputs)],
            output_names=["scores"],
            verbose=False,
        )
    except Exception as error:  # whatever a model does to what traces it
        raise _cannot_export(trained, "ONNX", error) from error
    if program is None:
        raise AssertionError("asked for no file, torch.onnx.export returns a program")
    model = program.model
    for graph in (model.graph, *model.functions.values()):
        for node in graph:  # where in our code each comes from
            node.metadata_props.clear()
            node.doc_string = None
    model.producer_name, model.producer_version = "trainer-cli", __version__
    model.metadata_props.update(_texts(about))
    program.save(str(place), external_data=False)
    return int(model.opset_imports[""])


def _write_torch(trained: OpenedRun, about: dict[str, Any], place: Path) -> None:
    whole, inputs, sizes = _whole(trained)
    torch.compiler.reset()  # what a loop was for another model would be asked whether it fits, and fix sizes by that
    try:
        with torch.no_grad():
            program = torch.export.export(whole, inputs, dynamic_shapes=sizes, strict=False)
    except Exception as error:  # whatever a model does to what traces it
        raise _cannot_export(trained, "torch.export", error) from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:  # where in our code each comes from
                node.meta.pop("stack_trace", None)
    with place.open("wb") as file:
        extra = {"metadata.json": json.dumps(for_json(about), ensure_ascii=False)}
        torch.export.save(program, file, extra_files=extra)


def _write_safetensors(trained: OpenedRun, about: dict[str, Any], place: Path) -> None:
    from safetensors.torch import save

    weights = {name: tensor.clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    place.write_bytes(save(weights, metadata=_texts(about)))


def _cannot_export(trained: OpenedRun, what: str, error: Exception) -> RunError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return RunError(f"model={trained.settings.model['name']}: cannot be exported to {what}: {_one_line(cause)}")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'…' * (len(text) > 300)}"


_WRITERS: dict[str, Callable[[OpenedRun, dict[str, Any], Path], int | None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
    "safetensors": _write_safetensors,
}


# ---- checking


def check_batches(trained: OpenedRun, data: Data) -> list[Inputs]:
    """Raw samples of the data that no weights were learned from, the test split, in batches of different sizes.

    Where lengths vary, the shortest is alone, the longest among the next two, and all others are mixed.
    """
    split = next(part for part in (data.test, data.val, data.train) if part is not None and len(part))
    split = split.take(torch.linspace(0, len(split) - 1, min(MAX_CHECKED, len(split))).long())
    if split.lengths is not None and len(split) > 2:
        order = split.lengths.argsort(stable=True)
        mixed = torch.randperm(len(order) - 2, generator=torch.Generator().manual_seed(0)) + 1
        split = split.take(torch.cat([order[:1], order[-1:], order[mixed]]))
    return [split.source.fetch(part) for part in _parts(split)]


def _parts(split: Split) -> Iterator[Tensor]:
    start = 0
    for size in BATCHES:
        if start < len(split):
            yield split.positions[start : start + size]
        start += size


def given(trained: OpenedRun, inputs: Inputs) -> Inputs:
    """Raw samples as a file takes them: float32 numbers, pixels and waves, int64 tokens and lengths."""
    first, lengths = inputs[0], inputs[1:]
    if trained.features is not None:
        first = as_wave(first)
    first = first.long() if trained.spec.kind == "tokens" else first.float()
    return first, *(each.long() for each in lengths)


def largest_difference(trained: OpenedRun, batches: Sequence[Inputs], run: Run, runtime: str) -> float:
    """Between the scores of a file and the model's, over all samples; values in their standard deviations.

    Raises:
        RunError: the runtime cannot run it, or the scores are of another shape.
    """
    scale = torch.tensor(trained.spec.target_std or 1.0)
    largest = 0.0
    for batch in batches:
        wanted = trained.scores(batch)
        try:
            found = run(given(trained, batch))
        except Exception as error:  # those of a runtime have no class in common
            size = "×".join(map(str, batch[0].shape))
            raise RunError(
                f"model={trained.settings.model['name']}: {runtime} cannot run it on a batch of {size}: "
                f"{_one_line(error)}"
            ) from error
        if found.shape != wanted.shape:
            raise RunError(f"{runtime} returns {tuple(found.shape)}, the model {tuple(wanted.shape)}")
        difference = float(((found - wanted) / scale).abs().max())
        largest = max(largest, difference if difference == difference else float("inf"))
    return largest


def _run_onnx(trained: OpenedRun, place: Path) -> tuple[Run, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(place), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Inputs) -> Tensor:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(["scores"], arrays)[0])

    return run, f"onnxruntime {onnxruntime.__version__}"


def _run_torch(trained: OpenedRun, place: Path) -> tuple[Run, str]:
    with place.open("rb") as file:
        module = torch.export.load(io.BytesIO(file.read())).module()

    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        scores: Tensor = module(*inputs)
        return scores

    return run, f"torch.export of torch {torch.__version__}"


def _run_safetensors(trained: OpenedRun, place: Path) -> tuple[Run, str]:
    """The weights in a model that is built anew, of nothing but what stands in the file."""
    import safetensors
    from safetensors.torch import load_file

    with safetensors.safe_open(place, "pt") as file:
        about = file.metadata()
    config = json.loads(about["config"])
    spec = spec_of(json.loads(about["preprocessing"]), about["dataset"])
    loss = LOSSES.build(config["loss"], spec)
    spec = dataclasses.replace(spec, num_outputs=loss.num_outputs, sigmoid=loss.sigmoid)
    model = MODELS.build(config["model"], spec)
    model.load_state_dict(load_file(place))
    anew = dataclasses.replace(trained, spec=spec, loss=loss, model=model.eval())
    return anew.scores, f"safetensors {safetensors.__version__}"


_RUNTIMES: dict[str, Callable[[OpenedRun, Path], tuple[Run, str]]] = {
    "onnx": _run_onnx,
    "torch": _run_torch,
    "safetensors": _run_safetensors,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters and runtimes print, log and warn of: what counts comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
