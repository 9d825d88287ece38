"""Tests that need GPUs: NCCL, the scaler of fp16, sharded and replicated models, each against one GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.shell import TRAIN, points, run, state

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
WORDS = ["logger=none", "log_every=1", "batch_size=67", "max_steps=42", "epochs=3", "seed=3", "run_dir=run"]
# float32 sums in another order, and what comes of their rounding in 42 steps; bf16 and fp16 round coarser
CLOSE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}


@pytest.mark.parametrize("precision", CLOSE)
@pytest.mark.parametrize("device", [["device=ddp"], ["device=fsdp"], ["device=dp"]], ids=lambda words: words[0])
@pytest.mark.parametrize("model", [["model=cnn", "model.norm=batch"], ["model=gru"]], ids=lambda words: words[0])
def test_several_gpus_train_as_one_does(tmp_path: Path, precision: str, device: list[str], model: list[str]) -> None:
    if device == ["device=dp"] and torch.cuda.device_count() > 1 and "model.norm=batch" in model:
        pytest.skip("DataParallel normalises over each GPU's share")
    losses = []
    for name, words in (("one", ["device=cuda"]), ("many", device)):
        (tmp_path / name).mkdir()
        options = [f"precision={precision}", "accumulate=2", "clip_norm=1.0", "ema=0.9"]
        code, _, errors = run([*TRAIN, *WORDS, *model, *options, *words], tmp_path / name)
        assert code == 0, errors
        losses.append(points(tmp_path / name / "run", "train/loss"))
    assert losses[1] == pytest.approx(losses[0], rel=CLOSE[precision])


@pytest.mark.parametrize("device", ["ddp", "fsdp", "dp"])
def test_a_checkpoint_of_several_gpus_goes_on_on_one_and_back(tmp_path: Path, device: str) -> None:
    words = [*WORDS[:-2], "run_dir=run", "resume=auto", "checkpoint.async=true", "dataset.in_memory=false"]
    for number, chosen in enumerate((device, "cuda", device, "cpu"), 1):
        code, _, errors = run([*TRAIN, *words, f"device={chosen}", f"max_steps={7 * number}"], tmp_path)
        assert code == 0, errors
        assert state(tmp_path / "run")["step"] == 7 * number


def test_a_process_that_fails_on_a_gpu_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "import os\nfrom torch import nn\nfrom trainer.model import MODELS\n\n\n@MODELS.register\n"
        'class Failing(nn.Module):\n    """Fails in the last process."""\n\n    def __init__(self, spec):\n'
        "        super().__init__()\n        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n\n"
        "    def forward(self, inputs):\n"
        '        if os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):\n'
        '            raise ValueError("no")\n        return self.layers(inputs.float())\n'
    )
    words = [*WORDS, "plugins=[failing.py]", "model=failing", "device=ddp", "device.timeout=30s"]
    code, _, errors = run([*TRAIN, *words], tmp_path)
    assert code == 1
    assert errors.splitlines()[-1].startswith("train: error: rank ")


def test_more_processes_than_gpus_are_refused(tmp_path: Path) -> None:
    count = torch.cuda.device_count()
    code, out, errors = run([*TRAIN, *WORDS, "device=ddp", f"device.processes={count + 1}"], tmp_path)
    assert (code, out) == (2, "")
    assert f"device.processes: must be at most {count}, the number of GPUs, got {count + 1}" in errors


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_copied_beside_the_steps_is_what_is_in_memory(tmp_path: Path, workers: int) -> None:
    losses = []
    for name, words in (("memory", []), ("streamed", ["dataset.in_memory=false", f"dataset.workers={workers}"])):
        (tmp_path / name).mkdir()
        augmented = ["dataset.augment.crop=1", "dataset.augment.mixup=0.2"]
        code, _, errors = run([*TRAIN, *WORDS, *augmented, "device=cuda", "precision=fp32", *words], tmp_path / name)
        assert code == 0, errors
        losses.append(points(tmp_path / name / "run", "train/loss"))
    assert losses[1] == losses[0]


def test_tf32_rounds_and_fp32_does_not(tmp_path: Path) -> None:
    losses = {}
    for name, words in {
        "cpu": ["device=cpu", "precision=fp32"],
        "fp32": ["device=cuda", "precision=fp32"],
        "tf32": ["device=cuda", "precision=tf32"],
    }.items():
        (tmp_path / name).mkdir()
        code, _, errors = run([*TRAIN, *WORDS, "max_steps=1", *words], tmp_path / name)
        assert code == 0, errors
        losses[name] = points(tmp_path / name / "run", "train/loss")[0]
    assert losses["fp32"] == pytest.approx(losses["cpu"], rel=1e-5)
    assert losses["tf32"] == pytest.approx(losses["cpu"], rel=1e-2)
    assert abs(losses["tf32"] - losses["cpu"]) > abs(losses["fp32"] - losses["cpu"])
