"""Describe the environment of a run: command, versions, device and git state."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("trainer-cli", "torch", "torchvision", "numpy", "hydra-core", "omegaconf", "tensorboard")
MAX_DIFF = 1 << 20  # largest number of characters of the git diff that is recorded


def environment(device: torch.device, run_dir: Path) -> dict[str, Any]:
    """Return what may explain a difference between two runs. Environment variables are not included.

    git is not called if the run directory is itself a repository: it may come from a stranger, and git executes
    commands that the config of a repository names.
    """
    untrusted = (run_dir / ".git").exists()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "command": sys.argv,
        "directory": os.getcwd(),  # noqa: PTH109
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))}
        | {"torch": str(torch.__version__)},  # names the build too, such as +cu132
        "device": {
            "type": device.type,
            "name": gpu or platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "cuda": torch.version.cuda,
        },
        "git": None if untrusted else _git(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, str] | None:
    """Return the current commit and the uncommitted changes in the working directory; None outside a repository."""
    commit = _ask_git("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _ask_git("diff", "--no-ext-diff", "--no-textconv", "HEAD")
    return {"commit": commit.strip(), "diff": (diff or "")[:MAX_DIFF]}


def _ask_git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout
