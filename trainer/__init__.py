"""A config-driven training command for PyTorch: a config names components, and one engine trains the model.

``train`` is also available from Python:

    from trainer import compose, run

    summary, model = run(compose("model=cnn", "epochs=3"))

To open a finished run, pass its run directory:

    from trainer import load

    trained = load("outputs/2026-11-25/04-46-47-cnn-digits")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import trainer.compose  # noqa: F401  # imported first, else it would replace the function compose below

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.commands.opened_run import load as load
    from trainer.config import ConfigError as ConfigError
    from trainer.config import Job
    from trainer.config import RunError as RunError
    from trainer.runner import run as run

__version__ = "0.1.0"
__all__ = ["ConfigError", "RunError", "compose", "load", "run"]

_MODULES = {
    "ConfigError": "trainer.config.errors",
    "RunError": "trainer.config.errors",
    "load": "trainer.commands.opened_run",
    "run": "trainer.runner",
}


def compose(*words: str, config_dir: str | Path | None = None) -> Job:
    """Return the checked job that ``train`` would run: ``compose("model=cnn", "optimizer.lr=3e-4")``.

    Args:
        words: overrides, as on the command line.
        config_dir: a folder with YAML files of your own, like ``--config-dir``.

    Raises:
        ConfigError: the config is wrong; the message has one line for each mistake.
    """
    from trainer.compose import check_command

    return check_command.compose(*words, config_dir=config_dir)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import trainer`` is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
