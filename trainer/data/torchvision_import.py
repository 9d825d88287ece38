"""Import torchvision even if its compiled operators cannot be loaded.

The torchvision wheel from the package index is linked against the CUDA build of torch, and its extension does not load
with a CPU-only torch. torchvision then registers fake kernels for operators that are not defined, and
``import torchvision`` fails with "operator torchvision::nms does not exist". Data sets, transforms and classifiers need
none of these operators, so this module declares the missing operators and imports torchvision again.

All code of this package imports torchvision from this module, inside the function that needs torchvision.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import torch

_MISSING = re.compile(r"operator torchvision::\w+ does not exist")
_FAKE_KERNEL = re.compile(r"""register_fake\(\s*["']torchvision::(\w+)["']""")
_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_SCHEMAS = {"nms": _NMS, "qnms": _NMS}

_declared: torch.library.Library | None = None  # the declarations are removed when the object is garbage-collected


def import_torchvision() -> ModuleType:
    """Import torchvision; if operators are missing, declare them and import torchvision again.

    Raises:
        ImportError, RuntimeError: torchvision cannot be imported for another reason.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if not _MISSING.search(str(error)):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # left behind by the failed import
    _declare_missing_operators()
    return importlib.import_module("torchvision")


def _declare_missing_operators() -> None:
    """Declare every operator for which the installed torchvision registers a fake kernel.

    The names are read from the source of torchvision, so that releases with more operators work as well. ``nms`` and
    ``qnms`` get their real schemas. The schema of the others is arbitrary: operators without a kernel cannot be called.
    """
    global _declared  # noqa: PLW0603
    found = importlib.util.find_spec("torchvision")
    assert found is not None and found.origin is not None
    sources = (path.read_text(encoding="utf-8") for path in sorted(Path(found.origin).parent.glob("_*.py")))
    names = {name for source in sources for name in _FAKE_KERNEL.findall(source)} | _SCHEMAS.keys()
    _declared = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(names):
        if not hasattr(torch.ops.torchvision, name):
            _declared.define(name + _SCHEMAS.get(name, "(Tensor self) -> Tensor"))


torchvision = import_torchvision()
