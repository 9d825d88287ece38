"""Count what the layout of the source is held to: ``python -m tests.architecture [FOLDER]``.

The source is parsed and never run. ``tests/contracts/test_architecture.py`` asserts the same figures.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent

# Who may import whom: a place imports only from places in lines below its own. A folder of ``trainer/`` is one place, a
# file of ``trainer/`` is one place. Imports within functions and under TYPE_CHECKING count as well.
ORDER = (
    ("__main__",),
    ("cli", "__init__"),
    ("sweep",),
    ("commands",),
    ("worker",),
    ("runner",),
    ("prepare",),
    ("reporting", "nonfinite"),
    ("build",),
    ("engine", "profiler"),
    ("dataset", "model"),
    ("recorder",),
    ("data", "device"),
    ("processes",),
    ("compose",),
    ("metrics",),
    ("checkpoint", "logger", "loss", "optimizer", "scheduler"),
    ("runs",),
    ("averaging",),
    ("config",),
    ("spec", "memory"),
)

# The files that a reader opens to follow ``train model=cnn`` to ``optimizer.step()``.
CORE = ("cli.py", "trainer/config/settings.py", "trainer/runner.py", "trainer/build.py", "trainer/engine.py")


class Size(NamedTuple):
    """A function or class, and how many lines it has."""

    name: str
    lines: int


class Source:
    """The parsed source of a checkout.

    Args:
        root: the folder that holds ``cli.py`` and ``trainer/``.
    """

    def __init__(self, root: Path = REPOSITORY) -> None:
        self.root = root
        files = [
            root / "cli.py",
            *sorted((root / "trainer").rglob("*.py")),
            *sorted(root.glob("hydra_plugins/**/*.py")),
        ]
        self.files = {self._module(path): path for path in files}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        self.lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in self.files.items()}
        self.imports = {name: {*self._imports(name)} - {name} for name in self.files}

    def _module(self, path: Path) -> str:
        return ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")

    def _imports(self, name: str) -> Iterator[str]:
        """The modules of this source that a module imports anywhere in its text."""
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.files)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    if whole in self.files or node.module in self.files:
                        yield whole if whole in self.files else node.module

    def place(self, name: str) -> str:
        """The entry of ``ORDER`` that a module belongs to."""
        first, _, rest = name.partition(".")
        return first if first != "trainer" else rest.partition(".")[0] or "__init__"

    def upward_imports(self) -> list[str]:
        """The imports that ``ORDER`` does not allow."""
        level = {place: number for number, places in enumerate(ORDER) for place in places}
        return [
            f"{name} imports {other}"
            for name, others in self.imports.items()
            for other in sorted(others)
            if self.place(name) != self.place(other)
            and other != "trainer"  # the public names, which are imported lazily
            and level[self.place(name)] >= level[self.place(other)]
        ]

    def circles(self) -> list[list[str]]:
        """The groups of modules that import each other."""
        reached: dict[str, set[str]] = {}
        for name in self.files:
            seen, waiting = set[str](), [name]
            while waiting:
                new = self.imports[waiting.pop()] - seen
                seen |= new
                waiting += new
            reached[name] = seen
        groups = {
            tuple(sorted({name} | {other for other in reached[name] if name in reached[other]})) for name in self.files
        }
        return [[*group] for group in sorted(groups) if len(group) > 1]

    def functions(self) -> list[Size]:
        """Every function and method."""
        return self._sizes(ast.FunctionDef)

    def classes(self) -> list[Size]:
        """Every class."""
        return self._sizes(ast.ClassDef)

    def _sizes(self, kind: type[ast.FunctionDef] | type[ast.ClassDef]) -> list[Size]:
        return [
            Size(f"{name}.{node.name}", (node.end_lineno or 0) - node.lineno + 1)
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, kind)
        ]

    def short_docstrings(self) -> list[str]:
        """The docstrings of four words or less, by file and line."""
        return [
            f"{name}:{node.lineno}"
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and (text := ast.get_docstring(node)) is not None
            and len(text.split()) <= 4
        ]

    def engine_files(self) -> list[str]:
        """The files directly in ``trainer/``."""
        return [name for name, path in self.files.items() if path.parent == self.root / "trainer"]

    def core_lines(self) -> dict[str, int]:
        """The lines of each file of ``CORE``; in an older layout, of those that are there."""
        return {name: len((self.root / name).read_text().splitlines()) for name in CORE if (self.root / name).is_file()}


def main(root: Path) -> None:
    """Print the figures of a checkout."""
    source = Source(root)
    long = [size for size in source.functions() if size.lines > 60]
    large = [size for size in source.classes() if size.lines > 200]
    folders = [path for path in (root / "trainer").iterdir() if path.is_dir() and any(path.glob("*.py"))]
    core = source.core_lines()
    known = {place for places in ORDER for place in places}
    figures: list[tuple[str, int, list[object]]] = [
        ("files directly in trainer/ (at most 16)", len(source.engine_files()), []),
        ("folders in trainer/ (15)", len(folders), []),
        ("circles of imports (0)", len(source.circles()), [*source.circles()]),
        ("functions over 60 lines (0)", len(long), [f"{name} {lines}" for name, lines in long]),
        ("classes over 200 lines (1, Engine)", len(large), [f"{name} {lines}" for name, lines in large]),
        ("docstrings of four words or less (0)", len(source.short_docstrings()), [*source.short_docstrings()[:5]]),
        (f"lines of the core path, {len(core)} files (5 files, 900)", sum(core.values()), [*core.items()]),
        ("lines of source", sum(source.lines.values()), []),
    ]
    if {source.place(name) for name in source.files} <= known:
        figures.append(("imports that point up (0)", len(source.upward_imports()), [*source.upward_imports()]))
    for what, count, examples in figures:
        print(f"{count:6,}  {what}" + (f": {', '.join(map(str, examples))}" if examples else ""))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY)
