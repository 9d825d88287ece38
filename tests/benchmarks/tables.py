"""Compare the defaults of ``train dataset=csv`` on tables with those of other programs: error, rank, seconds, memory.

    python -m tests.benchmarks.tables --tables FOLDER --peers PYTHON [--names titanic,…] [--seeds 0,1,2] [-o FILE.json]

PYTHON is an interpreter with pandas, scikit-learn, lightgbm, xgboost, catboost and pytabkit. Every method runs in a
process of its own on the same lines of the same file: a fifth of them, drawn by the seed, is test. Of the remaining
lines, methods that need val hold it out themselves. All have their defaults, and as many threads as the machine has
cores. The seconds are those of the whole process; those of fitting alone, without imports, stand beside them. With
``-o``, results that the file already has are not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OURS = {"mlp": [], "tabm": ["model=tabm"]}
PEERS = ("linear", "lightgbm", "xgboost", "catboost", "realmlp")


class Table(NamedTuple):
    """A table: its files, its target (a name, or a number without a header), and whether this is a class."""

    files: tuple[str, ...]
    target: str | int
    is_class: bool


TABLES = {
    "adult": Table(("adult-train.csv", "adult-test.csv"), 14, is_class=True),
    "auto_imports": Table(("auto_imports.csv",), 25, is_class=False),
    "breast-cancer": Table(("breast-cancer.csv",), 9, is_class=True),
    "california": Table(("california.csv",), "median_house_value", is_class=False),
    "diamonds": Table(("diamonds.csv",), "price", is_class=False),
    "german": Table(("german.csv",), 20, is_class=True),
    "mpg": Table(("mpg.csv",), "mpg", is_class=False),
    "penguins": Table(("penguins.csv",), "species", is_class=True),
    "titanic": Table(("titanic.csv",), "survived", is_class=True),
    "winequality-red": Table(("winequality-red.csv",), 11, is_class=True),
}


def divide(folder: Path, table: Table, seed: int, where: Path) -> dict[str, Path]:
    """Write train.csv and test.csv with the lines of a table, and return their paths."""
    lines = [
        line for file in table.files for line in (folder / file).read_text("utf-8-sig").splitlines() if line.strip()
    ]
    header = [lines.pop(0)] if isinstance(table.target, str) else []
    lines = [line.removesuffix(".") if line.endswith("K.") else line for line in lines]  # the labels of Adult's test
    order = np.random.default_rng(seed).permutation(len(lines))
    parts = {"test": order[: len(lines) // 5], "train": order[len(lines) // 5 :]}
    paths = {name: where / f"{name}.csv" for name in parts}
    for name, rows in parts.items():
        paths[name].write_text("\n".join([*header, *(lines[row] for row in sorted(rows.tolist()))]) + "\n", "utf-8")
    return paths


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command in a folder; return its seconds and its largest memory in MiB."""
    began = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}\n{(folder / 'log.txt').read_text()[-3000:]}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def run_ours(words: list[str], table: Table, seed: int, paths: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Train and predict with this package."""
    path = f"dataset.path={{train:{paths['train']},test:{paths['test']}}}"
    target = f"dataset.target={table.target}"
    command = [
        sys.executable,
        "-m",
        "cli",
        "dataset=csv",
        path,
        target,
        f"seed={seed}",
        "logger=none",
        "run_dir=run",
        *words,
    ]
    seconds, memory = measured(command, folder)
    measured([sys.executable, "-m", "trainer", "predict", "run", str(paths["test"]), "-o", "answers.csv"], folder)
    import csv

    with (folder / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    if table.is_class:
        classes = [key.removeprefix("p_") for key in rows[0] if key.startswith("p_")]
        scores = [[float(row[f"p_{name}"]) for name in classes] for row in rows]
        return {"classes": classes, "scores": scores, "seconds": seconds, "fit": seconds, "memory": memory}
    names = [key for key in rows[0] if key not in ("input", "error")]
    return {"scores": [float(row[names[0]]) for row in rows], "seconds": seconds, "fit": seconds, "memory": memory}


def run_peer(name: str, python: str, table: Table, seed: int, paths: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Train and predict with another program, by ``_table_peers.py``."""
    peer = Path(__file__).with_name("_table_peers.py")
    options = [name, str(paths["train"]), str(paths["test"]), str(table.target), str(int(table.is_class)), str(seed)]
    seconds, memory = measured([python, str(peer), *options, str(folder / "answers.json")], folder)
    return {**json.loads((folder / "answers.json").read_text()), "seconds": seconds, "memory": memory}


def truth(table: Table, path: Path) -> list[str]:
    """Return the targets of a file, as texts."""
    import csv

    with path.open(newline="") as file:
        rows = list(csv.reader(file, skipinitialspace=True, quotechar='"'))
    column = rows.pop(0).index(table.target) if isinstance(table.target, str) else table.target
    return [row[column].strip() for row in rows]


def judge(table: Table, answers: dict[str, Any], targets: list[str]) -> dict[str, float]:
    """Return the metrics of some answers."""
    if not table.is_class:
        there = [at for at, text in enumerate(targets) if text not in ("?", "")]
        errors = np.array([answers["scores"][at] - float(targets[at]) for at in there])
        return {"error": float(np.sqrt((errors**2).mean()))}
    classes = [plain(each) for each in answers["classes"]]
    scores = np.array(answers["scores"])
    true = np.array([classes.index(plain(each)) for each in targets])
    right = scores.argmax(1) == true
    loss = -np.log(np.clip(scores[np.arange(len(true)), true], 1e-15, 1)).mean()
    found = {"error": float(1 - right.mean()), "log_loss": float(loss)}
    if len(classes) == 2:
        found["auroc"] = auroc(scores[:, 1], true == 1)
    return found


def plain(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.strip().strip("'")


def auroc(scores: np.ndarray, true: np.ndarray) -> float:
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (count.cumsum() - (count - 1) / 2)[place]
    positive = true.sum()
    return float((rank[true].sum() - positive * (positive + 1) / 2) / (positive * (len(true) - positive)))


def show(found: dict[str, Any]) -> None:
    """Print a table for each measure: the mean over the seeds of each method on each table."""
    methods = [*dict.fromkeys(key.split("/")[2] for key in found)]
    names = [*dict.fromkeys(key.split("/")[0] for key in found)]
    for measure in ("error", "log_loss", "auroc", "seconds", "memory"):
        print(f"\n{measure:16}" + "".join(f"{method:>11}" for method in methods))
        ranks: dict[str, list[float]] = {method: [] for method in methods}
        for name in names:
            means = {}
            for method in methods:
                some = [
                    each[measure]
                    for key, each in found.items()
                    if key.split("/")[::2] == [name, method] and measure in each
                ]
                means[method] = float(np.mean(some)) if some else math.nan
            if np.isnan([*means.values()]).all():
                continue
            print(f"{name:16}" + "".join(f"{means[method]:11.4g}" for method in methods))
            sign = -1 if measure == "auroc" else 1
            for method in methods:
                own = sign * means[method]
                others = [sign * value for value in means.values()]
                ranks[method].append(sum(o < own for o in others) + (sum(o == own for o in others) + 1) / 2)
        print(f"{'mean rank':16}" + "".join(f"{np.mean(ranks[method]):11.2f}" for method in methods))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--peers", required=True, metavar="PYTHON")
    parser.add_argument("--names", default=",".join(TABLES))
    parser.add_argument("--methods", default=",".join([*OURS, *PEERS]))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    for name in arguments.names.split(","):
        table = TABLES[name]
        for seed in map(int, arguments.seeds.split(",")):
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                paths = divide(arguments.tables, table, seed, folder)
                targets = truth(table, paths["test"])
                for method in arguments.methods.split(","):
                    key = f"{name}/{seed}/{method}"
                    if key in found:
                        continue
                    own = folder / method
                    own.mkdir()
                    if method in OURS:
                        answers = run_ours(OURS[method], table, seed, paths, own)
                    else:
                        answers = run_peer(method, arguments.peers, table, seed, paths, own)
                    times = {each: answers[each] for each in ("seconds", "fit", "memory")}
                    found[key] = {**judge(table, answers, targets), **times}
                    print(key, {each: round(value, 4) for each, value in found[key].items()}, flush=True)
                    if arguments.output:
                        arguments.output.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
