"""The components of a run, and the batch sizes of its evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY, Train
from tests.forked import forked
from tests.helpers import make_spec
from tests.test_engine import make_engine
from trainer.metrics import Sums
from trainer.spec import evaluation_batch_size


@pytest.mark.parametrize("words", [("metrics=[accuracy,f1,recall,precision,balanced_accuracy]", "monitor=val/f1")])
def test_metrics_and_monitor_are_chosen_by_name(train: Train, words: tuple[str, ...]) -> None:
    result = train("epochs=2", "logger=none", *words)
    assert {"test/f1", "test/recall", "test/precision", "test/balanced_accuracy"} <= result.summary.keys()
    assert result.summary["monitor"] == "val/f1"
    assert result.summary["best"]["val/f1"] == max(result.points("val/f1"))
    assert "val f1" in result.out


def test_small_batches_of_training_are_larger_ones_of_an_evaluation(tmp_path: Path) -> None:
    small, large = make_spec("image", (1, 8, 8)), make_spec("image", (3, 224, 224))
    assert evaluation_batch_size(16, small) == 128
    assert evaluation_batch_size(1000, small) == 1000
    assert evaluation_batch_size(2, large) == 6  # of 150,528 values each
    assert evaluation_batch_size(32, large) == 32
    engine = make_engine(tmp_path, batch_size=16)
    assert engine.loaders.val is not None and len(engine.loaders.val) == 2  # 229 samples
    at_once = engine.evaluate(engine.loaders.val).compute(engine.metrics)
    model, one_by_one = engine.model.eval(), Sums(engine.spec, torch.device("cpu"), engine.loss.scores)
    for batch in engine.loaders.val.epoch():
        for inputs, targets in zip(batch.inputs[0].split(1), batch.targets.split(1), strict=True):
            outputs = model(inputs).detach()
            one_by_one.update(engine.loss(outputs, targets), 1, outputs, targets)
    assert at_once == pytest.approx(one_by_one.compute(engine.metrics), rel=1e-5)


def test_classes_of_a_data_set_without_counts_can_be_balanced(tmp_path: Path) -> None:
    plugin = REPOSITORY / "examples" / "iris" / "flowers.py"
    words = ("dataset=iris", "dataset.file=iris.csv", "dataset.val_fraction=0.2", "dataset.test_fraction=0.2")
    keys = ("loss.weight=balanced", "model=perceptron", "logger=none", "epochs=1", "run_dir=run")
    result = forked([f"plugins=[{plugin}]", *words, *keys], tmp_path)
    assert result.returncode == 0, result.stderr
    saved = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert len(saved["data"]["counts"]) == 3 and sum(saved["data"]["counts"]) == saved["fingerprint"]["train"]


@pytest.mark.parametrize("steps", ["null", "2"])
def test_a_model_that_takes_no_lengths_is_refused_where_they_vary(tmp_path: Path, steps: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom trainer.model import MODELS\n\n\n@MODELS.register\ndef flat(spec):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(8, spec.num_outputs))\n"
    )
    data = ("dataset=synthetic", "dataset.kind=sequence", "dataset.shape=[4,2]", f"dataset.min_steps={steps}")
    result = forked(["plugins=[mine.py]", "model=flat", *data, "logger=none", "max_steps=1"], tmp_path)
    said = "model=flat: forward has to take (inputs, lengths), because the samples of dataset=synthetic vary"
    assert (result.returncode, said in result.stderr) == ((0, False) if steps == "null" else (2, True)), result.stderr
