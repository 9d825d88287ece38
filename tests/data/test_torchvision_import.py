"""The repair of torchvision: only where it is broken, and for every operator it misses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

HEALTHY = {"__init__.py": "import sys\nsys.imports = getattr(sys, 'imports', 0) + 1\n__version__ = '9'"}
BROKEN = {
    "__init__.py": "import sys\nsys.imports = getattr(sys, 'imports', 0) + 1\nfrom torchvision import _meta",
    "_meta.py": (
        "import torch\n"
        "@torch.library.register_fake('torchvision::nms')\ndef nms(a, b, c): ...\n"
        "@torch.library.register_fake(\n    'torchvision::some_new_op'\n)\ndef new(a): ...\n"
    ),
}
OTHER_ERROR = {"__init__.py": "raise RuntimeError('something else')"}


def imported(tmp_path: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Import torchvision through this module in a new process, with a torchvision made of these files."""
    (tmp_path / "torchvision").mkdir()
    for name, content in files.items():
        (tmp_path / "torchvision" / name).write_text(content)
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(REPOSITORY)!r}]\n"
        "from trainer.data import torchvision_import as vision; import torch\n"
        "print(sys.imports, vision._declared is not None, hasattr(torch.ops.torchvision, 'some_new_op'))"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_healthy_torchvision_is_imported_once_and_left_alone(tmp_path: Path) -> None:
    assert imported(tmp_path, HEALTHY).stdout.split() == ["1", "False", "False"]


def test_every_operator_that_misses_is_declared_also_those_of_a_later_release(tmp_path: Path) -> None:
    assert imported(tmp_path, BROKEN).stdout.split() == ["2", "True", "True"]


@pytest.mark.slow
def test_any_other_error_passes_through(tmp_path: Path) -> None:
    done = imported(tmp_path, OTHER_ERROR)
    assert done.returncode != 0
    assert "RuntimeError: something else" in done.stderr


@pytest.mark.slow
def test_the_installed_torchvision_works_in_models_and_transforms() -> None:
    program = (
        "from trainer.data.torchvision_import import torchvision; import torch; from torchvision.transforms import v2\n"
        "print(*torchvision.models.squeezenet1_1(num_classes=3)(torch.rand(2, 3, 64, 64)).shape,\n"
        "      *v2.RandomHorizontalFlip(1.0)(torch.rand(3, 4, 4)).shape)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "3", "3", "4", "4"], done.stderr
