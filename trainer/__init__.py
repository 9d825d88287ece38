"""The config-driven training command for PyTorch: configs choose, registries find, one engine trains.

From Python the same in three lines:

    from trainer import compose, run

    summary, model = run(compose("model=cnn", "epochs=3"))

and later, from the run directory alone:

    from trainer import load

    trained = load("outputs/2026-11-25/04-46-47-cnn-digits")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.commands.opened_run import load
    from trainer.compose.composer import compose
    from trainer.config import ConfigError, RunError
    from trainer.runner import run as run

__version__ = "0.1.0"
__all__ = ["ConfigError", "RunError", "compose", "load", "run"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: ``import trainer`` alone costs nothing."""
    if name == "compose":
        from trainer.compose.composer import compose

        return compose
    if name in ("ConfigError", "RunError"):
        from trainer.config import errors

        return getattr(errors, name)
    if name == "run":
        from trainer.runner import run

        return run
    if name == "load":
        from trainer.commands.opened_run import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
