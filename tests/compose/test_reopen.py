"""The settings of a stored config: what a run has stored is never interpolated."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trainer import compose
from trainer.compose.read_word import text_of
from trainer.compose.reopen import settings_for_use
from trainer.config import ConfigError
from trainer.runs import resume


def stored(folder: Path, **changes: object) -> Path:
    config = {**compose("model=cnn", "dataset=digits").settings.to_dict(), "run_dir": str(folder), **changes}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.parametrize("text", ["${oc.env:TRAINER_X}", '${oc.decode:"1+1"}', "${seed}", "${"])
def test_an_interpolation_in_a_stored_config_is_text(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER_X", "1")
    monkeypatch.setenv("SECRET", "1")
    assert settings_for_use(stored(tmp_path, monitor=text), ()).monitor == text
    with pytest.raises(ConfigError) as caught:
        settings_for_use(stored(tmp_path, seed=text), ())
    assert f"seed: must be a whole number, at least 0, got {text!r}" in caught.value.problems[0]


def test_a_stored_word_does_not_read_the_environment_again(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    words = ["model=cnn", "seed=${oc.env:TRAINER_X}", "run_dir=out/${now:%H}", "epochs=${batch_size}"]
    (folder / "overrides.yaml").write_text(yaml.safe_dump(words))
    with pytest.raises(ConfigError, match="a stored word is not resolved again; if you trust it, type it again"):
        resume.with_earlier_words([f"resume={folder}"], text_of)
    again = resume.with_earlier_words([f"resume={folder}", "seed=${oc.env:TRAINER_X}"], text_of)
    assert again[:3] == ["model=cnn", "epochs=${batch_size}", "seed=${oc.env:TRAINER_X}"]


def test_keys_that_the_version_of_a_run_did_not_have_are_at_their_defaults(tmp_path: Path) -> None:
    now = compose("model=cnn", "dataset=digits").settings.to_dict()
    del now["dataset"]["val_seed"], now["dataset"]["augment"]["cutmix"], now["checkpoint"]["async"], now["patience"]
    now["dataset"]["val_fraction"] = 0.3
    assert now.pop("thresholds") == "auto"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(now))
    settings = settings_for_use(tmp_path, ("dataset.workers=2",))
    assert settings.thresholds == 0.5  # above which an earlier version predicted every label
    assert (settings.dataset["val_seed"], settings.dataset["augment"]["cutmix"]) == (None, 0.0)
    assert (settings.checkpoint["async"], settings.patience) == (False, None)
    assert (settings.dataset["val_fraction"], settings.dataset["workers"]) == (0.3, 2)


def test_a_misspelt_key_of_a_stored_config_is_refused(tmp_path: Path) -> None:
    now = compose("model=cnn", "dataset=digits").settings.to_dict()
    now["dataset"]["val_sed"] = now["dataset"].pop("val_seed")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(now))
    with pytest.raises(ConfigError, match=r"dataset\.val_sed: no such key"):
        settings_for_use(tmp_path, ())
