"""Checkpoints of unknown origin with a right checksum: none may run code or become larger than its file."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.config import ConfigError
from trainer.runs.checkpoint_file import _COMMENT, _MARK, DamagedError, dump, read


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def stamped(archive: bytes) -> bytes:
    """Return an archive with its checksum, as a stranger can compute it."""
    whole = archive[:-2] + _COMMENT.to_bytes(2, "little")
    return whole + _MARK + hashlib.sha256(whole).hexdigest().encode()


def deflated(archive: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as after:
        for each in before.infolist():
            after.writestr(each.filename, before.read(each))
    return file.getvalue()


def nested(depth: int, width: int) -> list[Any]:
    found: list[Any] = [1]
    for _ in range(depth):
        found = [found] * width
    return found


def reason(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises((ConfigError, DamagedError)) as caught:
        read(path)
    return str(caught.value)


def test_what_is_dumped_is_read(tmp_path: Path) -> None:
    weight = torch.arange(4.0)
    state = {"model": {"a": weight, "tied": weight, "row": torch.eye(2)[0]}, "step": 3, "data": {"classes": ["a"] * 9}}
    dump(state, tmp_path / "last.pt")
    found = read(tmp_path / "last.pt")
    assert torch.equal(found["model"]["tied"], weight)
    assert found["data"] == state["data"]


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    archive = deflated(saved({"w": torch.zeros(100_000)}))
    assert len(archive) < 40_000
    assert reason(tmp_path / "last.pt", stamped(archive)).startswith("its content is compressed")


def moved(archive: bytes) -> bytes:
    """Return an archive whose last records name a directory one byte earlier."""
    place = archive.rindex(b"PK\6\7") + 8
    return archive[:place] + bytes([archive[place] ^ 1]) + archive[place + 1 :]


@pytest.mark.parametrize("archive", [b"x" * 9, moved(saved({"step": 1})), b"x" + saved({"step": 1})])
def test_a_directory_at_another_place_is_damage(archive: bytes, tmp_path: Path) -> None:
    assert reason(tmp_path / "last.pt", stamped(archive)) == "its directory is damaged"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"w": torch.zeros(1).expand(10**12)}, "its tensors or lists are larger than the file"),
        (
            {"w": torch.zeros(10**12, device="meta")},
            "holds torch._utils._rebuild_meta_tensor_no_storage and other objects",
        ),
        ({"w": nested(60, 2)}, "its tensors or lists are larger than the file"),
        ({"w": nested(250, 1)}, "it is nested too deeply"),
        ({"w": Fraction(1, 2)}, "holds fractions.Fraction and other objects besides tensors and plain data"),
        ([1, 2], "is no checkpoint of a run: it holds a list"),
    ],
)
def test_content_that_grows_or_is_an_object_is_named(content: Any, said: str, tmp_path: Path) -> None:
    assert said in reason(tmp_path / "last.pt", stamped(saved(content)))


def test_a_named_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(DamagedError, match="is a named pipe, not a file"):
        read(tmp_path / "last.pt")
