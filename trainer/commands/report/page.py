"""The HTML page about a run: result, curves, mistakes with explanations, and commands that repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from markupsafe import Markup

from trainer.commands.evaluate.measure import Measured
from trainer.commands.pages.plots import Curve, plot_curves, to_svg
from trainer.commands.pages.render import render
from trainer.commands.report.analysis import Analysis
from trainer.commands.text_table import figure
from trainer.metrics.of_scores import calibration, calibration_error
from trainer.runs.directory import ENVIRONMENT, read_json
from trainer.runs.read import Run, as_number, flatten, read_config, values_of

MAX_CLASSES = 30  # of a confusion matrix; for more classes the page lists the pairs that are confused most often
MAX_PAIRS = 20
MAX_DIFF = 20_000  # characters of the git diff that the page shows
HEADS = {"f1": "F1", "auroc": "AUROC", "ap": "average precision"}  # of the columns of the table of classes
SIZE = (5.6, 3.0)  # width and height of a plot in inches


def make_page(run: Run, analysis: Analysis) -> str:
    """Return the page as HTML."""
    config, environment = read_config(run.path), read_json(run.path / ENVIRONMENT)
    model, dataset = (flatten(config).get(f"{group}.name", "?") for group in ("model", "dataset"))
    measured, reason = analysis.measured, run.summary.get("reason")
    return render(
        "run.html",
        command="report",
        title=f"{model} on {dataset}",
        run=run,
        analysis=analysis,
        notes=[*([reason] if reason else []), *analysis.notes],
        numbers=_collect_numbers(run, analysis),
        curves=[*_draw_curves(run)],
        **({} if measured is None or measured.spec.task == "regression" else _collect_scores(measured)),
        commands=_list_commands(run, config),
        typed=values_of(run.words),
        config=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
        environment=dict(_list_environment(environment)),
        diff=_shorten_diff(environment),
    )


def _collect_numbers(run: Run, analysis: Analysis) -> dict[str, str]:
    """Return the numbers at the top of the page, formatted, by name."""
    shown = {name: figure(value) for name, value in run.metrics.items() if name.startswith("test/")}
    if run.monitor is not None:
        shown[f"best {run.monitor}"] = figure(run.best)
    if analysis.measured is not None:
        split = analysis.measured.split
        found = {f"{split}/{name}": f"{value:.4f}" for name, value in analysis.measured.values.items()}
        shown |= {name: value for name, value in found.items() if name not in shown}
    for name in ("steps", "epochs", "seconds", "samples_per_second"):
        number = as_number(run.summary.get(name))
        if number is not None:
            shown[name.replace("_", " ")] = f"{number:,.1f}" if name == "seconds" else f"{number:,.0f}"
    if analysis.trained is not None:
        shown["parameters"] = f"{sum(each.numel() for each in analysis.trained.model.parameters()):,}"
    return shown


def _draw_curves(run: Run) -> Iterator[Markup]:
    """Yield plots of the loss and of the monitored metric, each with train and val, and of the learning rate."""
    monitor = (run.monitor or "val/loss").removeprefix("val/")
    for name in dict.fromkeys(["loss", monitor]):
        curves = [Curve(split, run.curve(f"{split}/{name}"), split == "val") for split in ("train", "val")]
        curves = [curve for curve in curves if curve.points]
        if curves:
            yield to_svg(plot_curves(curves, name, SIZE), f"{name} over the steps")
    rate = run.curve("lr")
    if len({value for _, value in rate}) > 1:
        yield to_svg(plot_curves([Curve("lr", rate)], "lr", SIZE), "learning rate over the steps")


def _collect_scores(measured: Measured) -> dict[str, Any]:
    """Return the template's values for the metrics of each class or label, the confusion matrix and the calibration."""
    names = measured.spec.classes
    is_classification, is_long = measured.spec.task == "classification", len(names) > MAX_CLASSES
    return {
        "noun": "class" if is_classification else "label",
        "head": [HEADS.get(name, name) for name in measured.class_head],
        "rows": measured.class_rows(),
        "is_long": is_long,
        "confusion": [*zip(names, measured.sums.tolist(), strict=True)] if is_classification and not is_long else [],
        "confused": measured.confused(MAX_PAIRS) if is_classification and is_long else [],
        "calibration": _measure_calibration(measured),
    }


def _measure_calibration(measured: Measured) -> dict[str, Any] | None:
    """Return the calibration error and a plot of accuracy over confidence; None if fewer than two bins are filled."""
    bins = [each for each in calibration(measured.fine, measured.targets).tolist() if each[0]]
    if len(bins) < 2:
        return None
    curves = [Curve("answers", [(sure, right) for _, sure, right in bins], True)]
    plot = plot_curves([*curves, Curve("as often as sure", [(0, 0), (1, 1)])], "share of right answers", SIZE)
    plot.axes[0].set_xlabel("probability of the answer")
    return {
        "error": calibration_error(measured.fine, measured.targets),
        "plot": to_svg(plot, "share of right answers over the probability of the answer"),
    }


def _list_commands(run: Run, config: Mapping[str, Any]) -> dict[str, str]:
    """Return shell commands that repeat the run or use its model, each with its title."""
    plugins = config.get("plugins")
    words = [f"plugins=[{','.join(map(str, plugins))}]"] if isinstance(plugins, list) and plugins else []
    path = shlex.quote(str(run.path))
    return {
        "The same training": shlex.join(["train", *run.words, *words]),
        "The same, compared number by number": f"trainer reproduce {path}",
        "Its answers on new files": f"trainer predict {path} FILE",
        "A file for other programs": f"trainer export {path}",
    }


def _list_environment(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in flatten(environment).items():
        if key != "git.diff" and value not in (None, "", []):
            yield key, shlex.join(map(str, value)) if key == "command" and isinstance(value, list) else str(value)


def _shorten_diff(environment: Mapping[str, Any]) -> str:
    git = environment.get("git")
    diff = str(git.get("diff") or "") if isinstance(git, dict) else ""
    cut = f"\n… {len(diff) - MAX_DIFF:,} more characters in {ENVIRONMENT}" if len(diff) > MAX_DIFF else ""
    return diff[:MAX_DIFF] + cut
