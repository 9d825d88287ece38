"""Imports torchvision, also where its compiled operators cannot be loaded.

torchvision's wheel from the package index is linked against the CUDA build of torch. Next to a CPU-only torch its
extension does not load; torchvision then goes on without operators, but registers fake kernels for operators that
nobody has defined, and ``import torchvision`` dies with "operator torchvision::nms does not exist". Its data sets,
transforms and classifiers need no such operator, so the missing ones are declared and the import tried again. Where
torchvision is healthy nothing but the import happens.

All code of this package imports torchvision from here, and only where it is used.
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

_declared: torch.library.Library | None = None  # its definitions vanish when it is collected


def import_torchvision() -> ModuleType:
    """``import torchvision``, declaring the operators it misses first where that is what the import dies of.

    Raises:
        ImportError, RuntimeError: whatever else keeps torchvision from being imported.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if not _MISSING.search(str(error)):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    _declare_missing_operators()
    return importlib.import_module("torchvision")


def _declare_missing_operators() -> None:
    """Declare every operator for which the installed torchvision registers a fake kernel.

    The names are read from its source, so that a release that needs more of them is served too. Only ``nms`` and its
    quantized twin have a known schema; the others need any schema, since without a kernel nobody can call them.
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
