"""Find processes by a mark in their environment, whatever their parents are now."""

from __future__ import annotations

from pathlib import Path


def marked(name: str, value: str, *, starts: bool = False) -> list[int]:
    """Return the ids of all processes with ``name=value`` in the environment that they were started with.

    Args:
        starts: a longer value that begins so counts, too.
    """
    wanted, found = f"\0{name}={value}" + ("" if starts else "\0"), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = b"\0" + (entry / "environ").read_bytes() + b"\0"
                if wanted.encode() in environment and status(entry) != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def status(entry: Path) -> str:
    """Return the state of a process, such as R, S or Z; ``entry`` is its folder in /proc."""
    return (entry / "stat").read_text().rpartition(")")[2].split()[0]
