"""The config-driven training command for PyTorch: configs choose, registries find, one engine trains.

``train`` is also available from Python:

    from trainer import compose, run

    summary, model = run(compose("model=cnn", "epochs=3"))

A finished run is opened from its run directory:

    from trainer import load

    trained = load("outputs/2026-11-25/04-46-47-cnn-digits")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.commands.opened_run import load
    from trainer.compose.composer import compose
    from trainer.config import ConfigError, RunError
    from trainer.runner import run as run

__version__ = "0.1.0"
__all__ = ["ConfigError", "RunError", "compose", "load", "run"]

_MODULES = {
    "ConfigError": "trainer.config.errors",
    "RunError": "trainer.config.errors",
    "compose": "trainer.compose.composer",
    "load": "trainer.commands.opened_run",
    "run": "trainer.runner",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import trainer`` takes no time."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
