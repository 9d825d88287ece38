"""Try everything that needs a GPU, in a few minutes, and print what failed and how fast it was.

    python -m tests.gpu --out results             # about eight minutes
    python -m tests.gpu --only speed compiled     # some parts
    python -m tests.gpu --cpu                     # without a card: what can run there, small, to try the script

The folder gets ``results.jsonl`` (a line for each case, with its figures), ``log.txt`` (all that the parts printed) and
``table.md`` (what is printed at the end). A part that crashes or hangs loses one case. Parts that nothing disturbs run
at the same time; those that are timed come last and alone. What there is no time for is named. The exit code is 1 if a
case failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gpu._parts import LOG, RESULTS, Part, Runner
from tests.gpu._table import exit_code, speeds, table

TABLE = "table.md"
MODELS = ("cnn", "gru", "gru-before", "lstm-both", "resnet18")
PARTS = (
    Part("versions", "tests.gpu._checks:versions", 40),
    Part("tests", "tests.gpu._tests:tests", 240),
    Part("kernels", "tests.gpu._checks:kernels", 90),
    Part("repeated", "tests.gpu._checks:repeated", 90),
    Part("waits", "tests.gpu._checks:waits", 90),
    Part("resumed", "tests.gpu._runs:resumed", 120),
    Part("processes", "tests.gpu._runs:processes", 120),
    Part("streamed", "tests.gpu._runs:streamed", 90),
    Part("faults", "tests.gpu._runs:faults", 60),
    Part("profiled", "tests.gpu._runs:profiled", 60),
    *(Part(f"matrix-{model}", f"tests.gpu._runs:matrix:{model}", 200) for model in MODELS),
    Part("memory", "tests.gpu._checks:memory", 40, alone=True),
    Part("speed", "tests.gpu._speed:speed", 240, alone=True),
    Part("launches", "tests.gpu._speed:launches", 60, alone=True),
    Part("compiled", "tests.gpu._speed:compiled", 240, alone=True),
    Part("more-speed", "tests.gpu._speed:more", 120, alone=True),
)
SHARE = 0.55  # of the time, for the parts that are not timed, if others are to come
PATIENCE = 4  # times the limits of parts and cases on a CPU
CORES = 4  # for each part that runs at the same time as others


def main() -> int:
    """Run the parts and print the tables."""
    options = _options()
    parts = [part for part in PARTS if not options.only or _is_chosen(part, options.only)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the tables are printed and no process is left
    out = options.out or (Path(os.environ["OUT"]) if os.environ.get("OUT") else Path(tempfile.mkdtemp(prefix="gpu-")))
    out.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, LOG, TABLE):
        (out / name).unlink(missing_ok=True)
    device = "cpu" if options.cpu or not _has_card() else "cuda"
    together = max(1, min(4, (os.cpu_count() or 1) // CORES))
    print(f"{device}, {len(parts)} parts, {together} at a time, at most {options.minutes:g} minutes; {out}", flush=True)
    if device == "cpu" and not options.cpu:
        print("torch sees no GPU here: the parts run on the CPU, small, and say nothing about a card", flush=True)
    work = Path(tempfile.mkdtemp(prefix="gpu-work-"))
    places = {"work": work, "data": work / "data", "results": (out / RESULTS).resolve()}
    setting = {
        "device": device,
        "patience": 1 if device == "cuda" else PATIENCE,
        **{name: str(place) for name, place in places.items()},
    }
    runner = Runner(out, work, setting, options.minutes * 60)
    try:
        runner.run(parts, together, SHARE)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    said = f"{speeds(runner.results)}\n{table(runner.results)}\n"
    (out / TABLE).write_text(said)
    print(f"\n{said}\n{out / LOG} has the full log, {out / RESULTS} the figures")
    return exit_code(runner.results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder of the results; default: $OUT, or a new one")
    names = ", ".join(part.name for part in PARTS)
    parser.add_argument("--only", nargs="+", metavar="PART", default=[], help=f"matrix for all of its parts; {names}")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--cpu", action="store_true", help="also if there is a card")
    options = parser.parse_args()
    if unknown := [word for word in options.only if not any(_is_chosen(part, [word]) for part in PARTS)]:
        parser.error(f"--only: no part {unknown[0]}; there are {names}")
    return options


def _is_chosen(part: Part, words: list[str]) -> bool:
    return any(part.name == word or part.name.startswith(f"{word}-") for word in words)


def _has_card() -> bool:
    """Ask another process, so that this one needs no memory of the card and no driver can end it."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
