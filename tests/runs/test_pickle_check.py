"""Pickles that would fill the memory or never end, next to those that every run writes."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from typing import Any

import pytest
import torch

from trainer.runs.pickle_check import fault


class Call:
    """Calls a function with an argument when it is unpickled."""

    def __init__(self, function: Any, argument: object) -> None:
        self._call = function, (argument,)

    def __reduce__(self) -> tuple[Any, tuple[object]]:
        return self._call


def doubled(times: int) -> tuple[Any, ...]:
    found: tuple[Any, ...] = (1, 2)
    for _ in range(times):
        found = (found, found)
    return found


def test_what_runs_store_has_no_fault() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": (3, tuple(range(625)), None),
        "parameter": model.weight,
        "others": [torch.float16, torch.Size([1]), torch.device("cpu"), {1, 2}, b"x", 1j, collections.OrderedDict(a=1)],
    }
    file = io.BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file) as archive:
        assert fault(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))) == ""


@pytest.mark.parametrize(
    "stored", [lambda it: it, lambda it: {it: 0}, lambda it: [it, it]], ids=["itself", "key", "list"]
)
def test_tuples_that_hold_each_other_twice_are_a_fault(stored: Any) -> None:
    few, many = pickle.dumps(stored(doubled(5)), protocol=2), pickle.dumps([doubled(40)], protocol=2)
    assert fault(few) == ""
    assert fault(many) == "tuples that are larger than the file, which no checkpoint of a run does"


@pytest.mark.parametrize(("function", "argument", "name"), [(bytearray, 6 * 10**9, "bytearray"), (eval, "1", "eval")])
def test_functions_are_a_fault_before_they_are_called(function: Any, argument: object, name: str) -> None:
    pickled = pickle.dumps({"w": Call(function, argument)}, protocol=2)
    assert fault(pickled) == f"__builtin__.{name} and other objects besides tensors and plain data; it could run code"


@pytest.mark.parametrize(
    "pickled", [b"", b"\x80\x02", b"\x80\x02\x85.", b"h\x00.", b"t.", b"\x80\x02X\xff\xff\xff\x7f."]
)
def test_a_damaged_pickle_is_left_to_torch(pickled: bytes) -> None:
    assert fault(pickled) == ""
