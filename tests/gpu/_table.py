"""What a person reads of the results: the table of the parts, the faults, and the table of speeds."""

from __future__ import annotations

import statistics
from typing import Any

from tests.gpu._parts import FAULT, FINAL, NO_TIME, OK, RESULTS, SKIPPED, Results

COUNTED = (OK, FAULT, SKIPPED, NO_TIME)
TOLD = 160  # characters of a note
MAX_NAMED = 6  # cases of a part that there was no time for


def table(results: Results) -> str:
    """Return the table of the parts, and below it the faults and what there was no time for."""
    by_part: dict[str, dict[str, dict[str, Any]]] = {}
    for line in results.read():
        if line["state"] in FINAL:
            by_part.setdefault(line["part"], {})[line["case"]] = line
    rows = [f"| part | {' | '.join(COUNTED)} |", "|" + " --- |" * (1 + len(COUNTED))]
    faults, late = [], []
    for part, by_case in by_part.items():
        lines = by_case.values()
        counts = [sum(line["state"] == state for line in lines) for state in COUNTED]
        rows.append(f"| {part} | {' | '.join(map(str, counts))} |")
        faults += [f"{part}, {line['case']}: {line['note'][:TOLD]}" for line in lines if line["state"] == FAULT]
        missed = [line["case"] for line in lines if line["state"] == NO_TIME]
        late += [part if missed == ["all"] else f"{part} ({_some(missed)})"] if missed else []
    said = ["faults:" if faults else "no fault", *(f"  {fault}" for fault in faults)]
    said += [f"no time for: {', '.join(late)}"] if late else []
    return "\n".join([*rows, "", *said])


def _some(names: list[str]) -> str:
    """Name the first cases of many."""
    more = len(names) - MAX_NAMED
    return "; ".join(names[:MAX_NAMED]) + (f"; and {more} more, see {RESULTS}" if more > 0 else "")


def exit_code(results: Results) -> int:
    """Return 1 if there is a fault, else 0."""
    return int(any(line["state"] == FAULT for line in results.read()))


def speeds(results: Results) -> str:
    """Return the tables of what was timed, one for each job, with the ratios to the other tools."""
    timed = [line["figures"] for line in results.read() if "rate" in line.get("figures", {})]
    said = []
    for job in dict.fromkeys(each["job"] for each in timed):
        rows = [each for each in timed if each["job"] == job]
        said += [f"{job}", "", "| tool | precision | images/s | / limit | / loop | / Lightning | MiB |"]
        said.append("|" + " --- |" * 7)
        for each in rows:
            ratios = [_ratio(each, rows, tool) for tool in ("limit", "loop", "Lightning")]
            cells = [each["tool"], each["precision"], f"{each['rate']:,.0f}", *ratios, f"{each['mebibytes']:,.0f}"]
            said.append(f"| {' | '.join(cells)} |")
        said.append("")
    return "\n".join(said + _launches(results))


def _ratio(each: dict[str, Any], rows: list[dict[str, Any]], tool: str) -> str:
    """Return the rate beside that of another tool in the same precision, or a dash."""
    others = [row["rate"] for row in rows if row["tool"] == tool and row["precision"] == each["precision"]]
    return f"{each['rate'] / statistics.median(others):.2f}" if others else "–"


def _launches(results: Results) -> list[str]:
    """Return the table of kernels launched, and of the share of a step in which the GPU has nothing to do."""
    found = [line["figures"] for line in results.read() if "launches" in line.get("figures", {})]
    if not found:
        return []
    rows = ["| job | tool | precision | launches a step | ms busy a step | ms a step | idle |", "|" + " --- |" * 7]
    for each in found:
        cells = [each["job"], each["tool"], each["precision"], f"{each['launches']:.0f}", f"{each['busy']:.3f}"]
        cells += [f"{each['step']:.3f}", f"{100 * each['idle']:.0f} %"]
        rows.append(f"| {' | '.join(cells)} |")
    return [*rows, ""]
