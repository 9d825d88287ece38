from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.dataset import make_digits
from trainer.data import Data, Normalise
from trainer.data.augment_images import OFF
from trainer.dataset.digits import FILE, digits


def load(seed: int) -> Data:
    return digits(seed, val_fraction=0.15, val_seed=None, sampler="shuffle", in_memory=True, workers=0, augment=OFF)


def test_the_file_names_its_source_and_licence() -> None:
    with safe_open(FILE, "pt") as file:
        assert file.metadata() == make_digits.SOURCE
    assert FILE.stat().st_size < 150_000


def test_the_file_is_scikit_learns_copy() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn holds the original; pip install scikit-learn")
    stored, made = load_file(FILE), make_digits.tensors()
    assert all(torch.equal(stored[name], made[name]) for name in made)


def test_the_test_set_is_the_same_for_every_seed_and_val_is_not() -> None:
    one, two = load(0), load(1)
    assert torch.equal(one.test.positions, two.test.positions)
    assert one.val is not None
    assert two.val is not None
    assert not torch.equal(one.val.positions, two.val.positions)
    assert one.fingerprint()["sha256"] != two.fingerprint()["sha256"]
    assert one.fingerprint() == load(0).fingerprint()


def test_no_image_stands_in_two_splits() -> None:
    data = load(0)
    positions = torch.cat([split.positions for split in data.splits().values()])
    assert torch.equal(positions.sort().values, torch.arange(1797))
    assert data.spec.counts == tuple(data.train.targets.bincount().tolist())
    assert min(data.test.targets.bincount().tolist()) >= 26


def test_the_normalisation_is_measured_on_train_alone() -> None:
    data = load(0)
    assert isinstance(data.normalise, Normalise)
    assert data.normalise.mean.item() == pytest.approx(data.train.head(len(data.train)).float().mean().item(), rel=1e-6)
    assert data.normalise.mean.item() != pytest.approx(data.test.head(len(data.test)).float().mean().item(), rel=1e-4)
