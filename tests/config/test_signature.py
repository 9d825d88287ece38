"""Reading a component's keys from its source says what importing it would say."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import Any

import pytest

from tests.config.test_registry import COMPONENTS
from trainer.config import PositiveInt, signature
from trainer.config.messages import describe
from trainer.config.registry import registry
from trainer.config.signature import MisplacedError, UnreadableError, keys, keys_of, sentences


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_what_is_read_is_what_is_imported(group: str, name: str) -> None:
    components = registry(group)
    file = components.file(name)
    assert file is not None
    read, imported = keys(file, name), keys_of(components.get(name))
    assert list(read) == list(imported)
    for key in read:
        assert read[key].default == imported[key].default
        assert describe(read[key].annotation) == describe(imported[key].annotation)


def read(folder: Path, code: str, name: str = "mine") -> dict[str, Parameter]:
    """Return the keys of the component ``name`` in a file with ``code``."""
    (folder / "plugin.py").write_text(code)
    return keys(folder / "plugin.py", name)


@pytest.mark.parametrize(
    "code",
    [
        "from trainer.config import PositiveInt\ndef mine(*, width: PositiveInt = 3): ...",
        "from trainer.config import PositiveInt as P\ndef mine(*, width: P = 3): ...",
        "from __future__ import annotations\nfrom trainer.config import PositiveInt\n"
        "def mine(*, width: PositiveInt = 3): ...",
        "from trainer.config import PositiveInt\ndef mine(*, width: 'PositiveInt' = 3): ...",
        "import trainer.config\nfrom trainer import config\nfrom typing import Annotated\nfrom msgspec import Meta\n"
        "Width = Annotated[int, Meta(ge=1)]\nDEFAULT = 3\ndef mine(*, width: Width = DEFAULT): ...",
        "import typing as t\nimport msgspec\ndef mine(*, width: t.Annotated[int, msgspec.Meta(ge=1)] = 1 + 2): ...",
        "from torch import nn\nfrom trainer.config import PositiveInt\nclass Mine(nn.Module):\n"
        "    def __init__(self, spec, *, width: PositiveInt = 3): ...",
        "from torch import nn\nfrom trainer.config import PositiveInt\nclass Base(nn.Module):\n"
        "    def __init__(self, spec, *, width: PositiveInt = 3): ...\nclass Mine(Base): ...",
    ],
)
def test_types_and_defaults_are_understood_however_they_are_written(tmp_path: Path, code: str) -> None:
    found = read(tmp_path, code)
    assert list(found) == ["width"]
    assert describe(found["width"].annotation) == describe(PositiveInt)
    assert found["width"].default == 3


def test_keys_can_be_a_typed_dict_and_come_from_the_neighbours(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "common.py").write_text(
        "import torch\nfrom typing import TypedDict\nclass Keys(TypedDict):\n    depth: int\n"
        "class More(Keys):\n    names: list[str]\n"
    )
    (package / "plugin.py").write_text(
        "from typing_extensions import Unpack\nfrom .common import More\n"
        "def mine(spec, *, first: bool, **keys: Unpack[More]): ...\n"
    )
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        found = keys(package / "plugin.py", "mine")
    finally:
        sys.path.remove(str(tmp_path))
    assert {key: describe(each.annotation) for key, each in found.items()} == {
        "first": "true or false",
        "depth": "a whole number",
        "names": "a list, each item a string",
    }


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "def mine(*, width: computed()): ...\ndef computed(): return int",
        "import torch\ndef mine(*, width: torch.dtype): ...",
        "import there_is_none\nclass Mine(there_is_none.Base): ...",
        "from nowhere_at_all import Base\nclass Mine(Base): ...",
    ],
)
def test_what_cannot_be_read_is_said_to_be_so(tmp_path: Path, code: str) -> None:
    with pytest.raises(UnreadableError):
        read(tmp_path, code)


def test_only_keyword_only_parameters_are_keys(tmp_path: Path) -> None:
    assert read(tmp_path, "def mine(spec, *rest, width=3, **anything): ...").keys() == {"width"}
    assert describe(read(tmp_path, "def mine(spec, *, width=3): ...")["width"].annotation) == "a whole number"
    with pytest.raises(MisplacedError, match="width has a default but is not keyword-only"):
        read(tmp_path, "def mine(spec, width: int = 3): ...")
    assert read(tmp_path, "class Mine: ...") == {}


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    assert read(tmp_path, "def mine(*, a: int): ...").keys() == {"a"}
    assert read(tmp_path, "def mine(*, longer: int): ...").keys() == {"longer"}


def test_components_are_found_by_their_decorators(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        "from trainer.model import MODELS as ALL\nimport trainer.loss\nfrom trainer.metrics import metric\n"
        "@ALL.register\nclass BigNet:\n    '''Big.'''\n@trainer.loss.LOSSES.register\ndef mine(): ...\n"
        "@metric('rate', 'classification')\ndef anything(): ...\ndef not_one(): ...\n"
    )
    found = signature.components(tmp_path / "plugin.py", {"MODELS": "model", "LOSSES": "loss"})
    assert [(each.group, each.name, each.line, each.doc) for each in found] == [
        ("model", "big_net", 5, "Big."),
        ("loss", "mine", 8, ""),
        ("metric", "rate", 10, ""),
    ]


@pytest.mark.parametrize(
    ("doc", "wanted"),
    [
        ("One line.", ("One line.", {})),
        ("", ("", {})),
        ("First\nline.\n\nSecond.\n\nArgs:\n    a: one.\n    b (int): two\n        lines.\n\nReturns:\n    c: no.",
         ("First line.", {"a": "one", "b": "two lines"})),
    ],
)  # fmt: skip
def test_sentences_are_those_of_the_docstring(doc: str, wanted: Any) -> None:
    assert sentences(doc) == wanted
