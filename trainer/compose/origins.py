"""Find where the value of a config key comes from: a line of a YAML file, or the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.config import yaml_file
from trainer.config.yaml_file import shown


class Origins:
    """Find where the value of a config key comes from, for error messages.

    Args:
        files: the YAML files of the config as pairs of package and path. The package, such as ``model``, is the dotted
            prefix of the file's keys. Later files override earlier ones.
        typed: the keys on the command line.
    """

    def __init__(self, files: Sequence[tuple[str, Path]], typed: set[str]) -> None:
        self._files, self._typed = files, typed

    def __call__(self, key: str) -> str:
        """Return the origin of a key's value: a file and line, the command line, or both; or an empty string."""
        place = self._place(key)
        if any(f"{key}.".startswith(f"{typed}.") or typed.startswith(f"{key}.") for typed in self._typed):
            return f"{place[0]}, overridden on the command line" if place else "from the command line"
        if place is not None:
            return f"{place[0]}, line {place[1]}"
        return next((shown(path) for package, path in reversed(self._files) if key == package), "")

    def _place(self, key: str) -> tuple[str, int] | None:
        """Return the last file that sets a key, and the line of the key, or None."""
        for package, path in reversed(self._files):
            if package and not f"{key}.".startswith(f"{package}."):
                continue
            local = key[len(package) + 1 :] if package else key
            line = yaml_file.read(path).lines.get(local)
            if line is not None:
                return shown(path), line
        return None
