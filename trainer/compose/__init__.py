"""From the words of a command line to checked settings. Hydra, no torch."""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """This package, which is called as ``trainer.compose``: once it is imported it hides the function of that name."""

    def __call__(self, *words: str, **keys: Any) -> Any:
        from trainer.compose.composer import compose

        return compose(*words, **keys)


sys.modules[__name__].__class__ = _CallablePackage
