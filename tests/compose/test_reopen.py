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
