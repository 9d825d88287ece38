"""The check of a command: each job is composed and checked once, and keeps the words that were typed for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from tests.conftest import Train
from trainer.compose import resolve
from trainer.compose.check_command import check_words
from trainer.compose.composer import Composer


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often Hydra composes, and how often a config is checked."""
    counted = Counter[str]()

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **keys: Any) -> Any:
            counted[name] += 1
            return original(*args, **keys)

        monkeypatch.setattr(owner, name, wrapper)

    count(ConfigLoaderImpl, "load_configuration")
    count(resolve, "check")
    return counted


def test_a_run_is_composed_once_and_checked_once(train: Train, calls: Counter[str]) -> None:
    assert train("dry_run=true", "logger=none", "limit_batches=1").code == 0
    assert calls == {"load_configuration": 1, "check": 1}


def test_each_job_of_a_sweep_is_checked_once(calls: Counter[str]) -> None:
    checked = check_words(Composer(), ["seed=0,1,2", "optimizer.lr=1e-3,1e-2"], multirun=True)
    assert len(checked.all_jobs()) == 6
    assert calls == {"load_configuration": 1, "check": 6}
    assert checked.all_jobs()[1].words == ("seed=0", "optimizer.lr=0.01")


@pytest.mark.usefixtures("forgets")
def test_the_runs_of_a_sweep_keep_the_word_that_names_their_plugins(tmp_path: Path) -> None:
    plugin = tmp_path / "kept_words.py"
    plugin.write_text(
        "from torch import nn\nfrom trainer.model import MODELS\nfrom trainer.spec import Spec\n\n\n"
        '@MODELS.register\nclass KeptWords(nn.Module):\n    """A model."""\n\n'
        "    def __init__(self, spec: Spec, *, width: int = 3) -> None:\n        super().__init__()\n"
    )
    words = [f"plugins=[{plugin}]", "model=kept_words", "model.width=1,2"]
    jobs = check_words(Composer(), words, multirun=True).all_jobs()
    assert [job.words for job in jobs] == [(*words[:2], f"model.width={width}") for width in (1, 2)]


@pytest.mark.usefixtures("forgets")
def test_the_types_of_a_plugin_s_keys_are_known_to_the_words_of_its_command(tmp_path: Path) -> None:
    plugin = tmp_path / "typed_words (1).py"
    plugin.write_text(
        "from torch import nn\nfrom trainer.model import MODELS\nfrom trainer.spec import Spec\n\n\n"
        '@MODELS.register\nclass TypedWords(nn.Module):\n    """A model."""\n\n'
        "    def __init__(self, spec: Spec, *, label: str, many: list[str]) -> None:\n        super().__init__()\n"
    )
    words = [f"plugins=[{plugin}]", "model=typed_words", "model.label=2024", "model.many=[\xe9 (1),3]"]
    (job,) = check_words(Composer(), words).jobs
    assert job.settings.model == {"name": "typed_words", "label": "2024", "many": ["\xe9 (1)", "3"]}
