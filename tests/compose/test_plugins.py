"""Components of the user's own: from files, modules, the environment and installed packages."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.forked import forked

MODEL = '''
import math

from torch import nn

from trainer.config import Fraction, PositiveInt
from trainer.model import MODELS


@MODELS.register
class Flat(nn.Module):
    """One linear layer.

    Args:
        gain: of the inputs.
        dropout: of the inputs; more than
            one line is one sentence.
    """

    def __init__(self, spec, *, gain: PositiveInt = 1, dropout: Fraction = 0.0):
        super().__init__()
        self.gain = gain
        inputs = math.prod(spec.shape)
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs, spec.num_outputs))

    def forward(self, inputs):
        return self.layers(inputs * self.gain)
'''
EVERYTHING = (
    MODEL
    + '''
import torch

from trainer.data import Data, Normalise, Split, TensorSource, split_off
from trainer.dataset import DATASETS
from trainer.logger import LOGGERS, Logger
from trainer.loss import LOSSES
from trainer.loss.cross_entropy import CrossEntropy
from trainer.metrics import metric
from trainer.optimizer import OPTIMIZERS
from trainer.scheduler import SCHEDULERS, Schedule
from trainer.spec import Spec


@DATASETS.register
def halves(seed: int, *, samples: PositiveInt = 90) -> Data:
    """Points left and right of zero."""
    inputs = torch.randn(samples, 3, generator=torch.Generator().manual_seed(0))
    everything = Split.all(TensorSource((inputs,), (inputs[:, 0] > 0).long()))
    rest, test = split_off(everything, 0.3, 0, key="test")
    train, val = split_off(rest, 0.3, seed)
    spec = Spec("halves", "table", (3,), "classification", ("left", "right"))
    return Data(spec, train, val, test, normalise=Normalise.measure(train))


@LOSSES.register
class Doubled(CrossEntropy):
    """Twice the cross entropy."""

    def __init__(self, spec, *, factor: float = 2.0):
        super().__init__(spec, label_smoothing=0.0, weight=None)
        self.factor = factor

    def forward(self, outputs, targets):
        return self.factor * super().forward(outputs, targets)


@OPTIMIZERS.register
def plain_sgd(parameters, *, lr: float = 0.1):
    """Steps down the gradient."""
    return torch.optim.SGD(parameters, lr=lr)


@SCHEDULERS.register
def sawtooth(horizon, *, teeth: PositiveInt = 2):
    """Up and down."""
    return Schedule(lambda step, part: 1 - (part * teeth) % 1, horizon)


@LOGGERS.register
class Shout(Logger):
    """Every point in capitals."""

    def __init__(self, run_dir, *, mark: str = "!"):
        self.file, self.mark = run_dir / "shout.txt", mark

    def log(self, values, step, epoch):
        with self.file.open("a") as file:
            file.write(f"{sorted(values)}{self.mark}".upper() + chr(10))


@metric("miss_rate", "classification", higher_is_better=False)
def miss_rate(confusion):
    """Wrong ones among all."""
    return 1 - confusion.trace() / confusion.sum()
'''
)


def train(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, since a plugin stays imported."""
    return forked(words, folder, {"PATH": os.environ["PATH"], "HOME": str(folder), **variables})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a plugin of one model, and one of everything."""
    (tmp_path / "my_models.py").write_text(MODEL)
    (tmp_path / "everything.py").write_text(EVERYTHING)
    return tmp_path


def test_every_kind_of_component_can_come_from_a_file(folder: Path) -> None:
    words = "plugins=[everything.py] model=flat dataset=halves loss=doubled optimizer=plain_sgd scheduler=sawtooth"
    done = train(folder, *words.split(), "logger=[shout,csv]", "metrics=[accuracy,miss_rate]", "monitor=val/miss_rate")
    assert done.returncode == 0, done.stderr
    assert "miss_rate 0." in done.stdout
    (run_dir,) = folder.glob("outputs/*/*")
    assert "VAL/MISS_RATE" in (run_dir / "shout.txt").read_text()
    config = (run_dir / "config.yaml").read_text()
    assert "plugins:\n- everything.py\n" in config
    assert "teeth: 2" in config


@pytest.mark.slow
def test_their_keys_are_checked_explained_and_suggested_as_ours_are(folder: Path) -> None:
    done = train(folder, "plugins=[my_models.py]", "model=flat", "model.gian=2", "model.dropout=1.5")
    assert done.returncode == 2
    assert sorted(done.stderr.splitlines()) == [
        "train: error: model.dropout: must be a number, at least 0 and less than 1, got 1.5 (from the command line)",
        "train: error: model.gian: no such key (from the command line); did you mean model.gain? keys: gain, dropout",
    ]
    assert "did you mean flat? options: cnn, flat, gru" in train(folder, "plugins=my_models.py", "model=flta").stderr
    text = train(folder, "plugins=[my_models.py]", "model=flat", "--help").stdout
    assert "model=flat  (my_models.py)\n  One linear layer.\n" in text
    assert "model.dropout  0.0  of the inputs; more than one line is one sentence\n" in text
    assert "flat         One linear layer." in train(folder, "plugins=[my_models.py]", "--help").stdout
    assert "gain: 1" in train(folder, "plugins=[my_models.py]", "model=flat", "--cfg", "job").stdout


@pytest.mark.slow
def test_a_yaml_of_the_users_own_goes_before_the_signature(folder: Path) -> None:
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "flat.yaml").write_text("# Stronger.\nname: flat\ngain: 5\n")
    words = ("plugins=[my_models.py]", "--config-dir", "mine", "model=flat")
    config = train(folder, *words, "--cfg", "job").stdout
    assert "gain: 5" in config
    done = train(folder, *words, "model.dropout=0.25", "max_steps=2", "logger=none")  # a key that only the code has
    assert (done.returncode, done.stderr) == (0, "")
    (run_dir,) = folder.glob("outputs/*/*")
    assert "gain: 5\n  dropout: 0.25" in (run_dir / "config.yaml").read_text()
    assert "model.dropout=0.25" in (run_dir / "overrides.yaml").read_text()
    assert "++" not in (run_dir / "overrides.yaml").read_text()


@pytest.mark.slow
def test_the_environment_and_modules_name_plugins_too(folder: Path) -> None:
    assert train(folder, "model=flat", "dry_run=true").returncode == 2
    assert train(folder, "model=flat", "dry_run=true", TRAINER_PLUGINS="my_models.py").returncode == 0
    (folder / "package" / "parts").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("import torch\n")
    (folder / "package" / "parts" / "__init__.py").write_text("from . import flat\n")
    (folder / "package" / "parts" / "flat.py").write_text(MODEL)
    assert train(folder, "plugins=[package.parts]", "model=flat", "dry_run=true").returncode == 0


@pytest.mark.slow
def test_an_installed_package_is_found_by_its_entry_point(folder: Path) -> None:
    site = folder / "site"
    (site / "their_package").mkdir(parents=True)
    (site / "their_package" / "__init__.py").write_text("raise RuntimeError('imported without need')\n")
    (site / "their_package" / "models.py").write_text(MODEL)
    info = site / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trainer.plugins]\nanything = their_package.models\n")
    assert train(folder, "dry_run=true", PYTHONPATH=str(site)).returncode == 0  # what is not used is not imported
    assert "model.gain     1    of the inputs" in train(folder, "model=flat", "--help", PYTHONPATH=str(site)).stdout
    done = train(folder, "model=flat", "dry_run=true", PYTHONPATH=str(site))
    assert done.returncode == 2
    assert "model=flat: cannot be loaded: RuntimeError: imported without need (" in done.stderr
    (site / "their_package" / "__init__.py").write_text("")
    assert train(folder, "model=flat", "dry_run=true", PYTHONPATH=str(site)).returncode == 0
    (info / "entry_points.txt").write_text("[trainer.plugins]\nanything = their_package.nothing\n")
    done = train(folder, "dry_run=true", PYTHONPATH=str(site))
    assert done.stderr.startswith("train: warning: the package their-package: their_package.nothing: no such module")
    assert done.returncode == 0  # a broken package does not stop what does not need it


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import torch\nimport nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found' ("),
        ("x = 1\ndef (:\n", "SyntaxError: invalid syntax ("),
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("raise SystemExit(3)\n", "SystemExit: 3 ("),
        ("raise ValueError('bad thing')\n", "ValueError: bad thing ("),
    ],
)
def test_a_plugin_that_fails_shows_its_own_error_and_where(folder: Path, code: str, line: str) -> None:
    (folder / "broken.py").write_text(code)
    done = train(folder, "plugins=[broken.py]", "epochs=0")
    assert done.returncode == 2
    first, second = sorted(done.stderr.splitlines(), reverse=True)
    assert first.startswith(f"train: error: plugins: broken.py: {line}")
    assert first.endswith(f"broken.py, line {len(code.splitlines())})")
    assert second.startswith("train: error: epochs: must be")
    assert not (folder / "outputs").exists()


@pytest.mark.slow
def test_a_name_used_twice_is_an_error(folder: Path) -> None:
    (folder / "other.py").write_text(MODEL)
    done = train(folder, "plugins=[my_models.py,other.py]", "model=flat", "dry_run=true")
    assert done.returncode == 2
    assert "model=flat: registered twice, in my_models.py, line 11, and other.py, line 11" in done.stderr
    (folder / "other.py").write_text(MODEL.replace("class Flat", "class CNN"))
    done = train(folder, "plugins=[other.py]", "dry_run=true")
    assert "model=cnn: registered twice, in trainer.model.cnn and other.py, line 11" in done.stderr
    (folder / "other.py").write_text(
        "from trainer.metrics import metric\n@metric('accuracy', 'classification')\ndef mine(confusion): ...\n"
    )
    done = train(folder, "plugins=[other.py]", "dry_run=true")
    assert "metrics: accuracy: registered twice for classification" in done.stderr


@pytest.mark.slow
def test_a_key_without_a_default_has_to_be_given(folder: Path) -> None:
    (folder / "my_models.py").write_text(MODEL.replace("PositiveInt = 1", "PositiveInt"))
    done = train(folder, "plugins=[my_models.py]", "model=flat", "dry_run=true")
    assert done.stderr == "train: error: model.gain: missing; a whole number, at least 1\n"
    assert train(folder, "plugins=[my_models.py]", "model=flat", "model.gain=2", "dry_run=true").returncode == 0
    assert "model.gain     (must be given)" in train(folder, "plugins=[my_models.py]", "model=flat", "-h").stdout


@pytest.mark.slow
def test_a_component_that_registers_in_a_way_that_cannot_be_read_is_imported(folder: Path) -> None:
    code = MODEL.replace("@MODELS.register\n", "") + "\nfor part in [Flat]:\n    MODELS.register(part)\n"
    (folder / "my_models.py").write_text(code)
    assert "model.gain" in train(folder, "plugins=[my_models.py]", "model=flat", "--help").stdout
    assert train(folder, "plugins=[my_models.py]", "model=flat", "dry_run=true").returncode == 0


@pytest.mark.slow
def test_a_plugin_works_in_a_sweep(folder: Path) -> None:
    done = train(folder, "-m", "plugins=[my_models.py]", "model=flat,cnn", "max_steps=1", "logger=none")
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("outputs/sweeps/*/*/*/summary.json"))) == 2


def test_a_zip_is_no_plugin(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a.py", MODEL)
    assert "plugins: a.zip: no such module" in train(folder, "plugins=[a.zip]").stderr


@pytest.mark.slow
def test_what_is_often_done_wrong_is_said(folder: Path) -> None:
    def answer(code: str, *words: str) -> str:
        (folder / "my_models.py").write_text(code)
        return train(folder, "plugins=[my_models.py]", "model=flat", "dry_run=true", *words).stderr

    assert "gain has a default but is not keyword-only" in answer(MODEL.replace("spec, *, gain", "spec, gain"))
    assert "registers nothing; a component stands under a decorator" in answer(MODEL.replace("@MODELS.register", ""))
    assert "write @….register without a name" in answer(MODEL.replace("register", "register('flat')"))
    assert "registered twice, in my_models.py, line 11, line" in answer(MODEL + MODEL.partition("MODELS\n")[2])
    assert "a key cannot be called name" in answer(MODEL.replace("gain", "name"))
    unknown = answer(MODEL.replace("PositiveInt", "PositivInt"))
    assert "cannot import name 'PositivInt'" in unknown
    assert answer(MODEL.replace("gain: PositiveInt = 1", "gain=1"), "model.gain=x").startswith(
        "train: error: model.gain: must be a whole number, got 'x'"
    )
    wrong = answer(MODEL.replace("nn.Linear(inputs,", "nn.Linear(inputs + 1,"))
    assert "mat1 and mat2 shapes cannot be multiplied" in wrong
    assert "my_models.py, line 27 (" in wrong
    (folder / "numpy.py").write_text(MODEL)
    done = train(folder, "plugins=[numpy.py]", "model=flat", "dry_run=true")
    assert "a module called numpy is there already; rename the file" in done.stderr


def test_what_only_type_checkers_import_is_no_hindrance(folder: Path) -> None:
    head = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import B\n"
    )
    (folder / "my_models.py").write_text(head + MODEL.replace("self, spec,", "self, spec: B,"))
    done = train(folder, "plugins=[my_models.py]", "model=flat", "dry_run=true")
    assert done.returncode == 0, done.stderr


def test_a_component_that_a_decorator_makes_is_understood_too(folder: Path) -> None:
    (folder / "made.py").write_text(
        "from dataclasses import dataclass\nfrom trainer.logger import LOGGERS, Logger\nfrom pathlib import Path\n\n"
        "@LOGGERS.register\n@dataclass\nclass Quiet(Logger):\n    run_dir: Path\n    def __post_init__(self): ...\n"
    )
    done = train(folder, "plugins=[made.py]", "logger=quiet", "dry_run=true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            '"table"',
            "dataset=halves: spec.kind must be one of image, spectrogram, sequence, tokens, table, got 'tabel'",
        ),
        ('"classification", ("left"', "dataset=halves: spec.task must be one of"),
        (".long()", "dataset=halves: train targets must be torch.int64 of (samples), got torch.float32 of ("),
        ("(3,), ", "dataset=halves: spec.shape is (4,), but a train sample is (3,)"),
        ("return Data(", "dataset=halves: has to return a Data, got tuple"),
        ('("left", "right")', "dataset=halves: train sample"),
    ],
)
def test_data_that_is_not_what_its_spec_says_is_refused(folder: Path, change: str, line: str) -> None:
    wrong = {
        '"table"': '"tabel"',
        '"classification", ("left"': '"classify", ("left"',
        ".long()": ".float()",
        "(3,), ": "(4,), ",
        "return Data(": "return (",
        '("left", "right")': '("left",)',
    }[change]
    code = EVERYTHING.replace(change, wrong)
    if change == "return Data(":
        code = code.replace("normalise=Normalise.measure(train)", "Normalise.measure(train)")
    (folder / "everything.py").write_text(code)
    done = train(folder, "plugins=[everything.py]", "dataset=halves", "dry_run=true")
    assert done.returncode in (1, 2)
    assert line in done.stderr
