"""Registries: folders, files, names and keys agree, without a list anywhere."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import trainer.model
from tests.config.test_check import plain_config
from tests.conftest import REPOSITORY
from trainer.config import GROUPS, ConfigError, yaml_file
from trainer.config.check import check
from trainer.config.registry import Registry, registry
from trainer.config.signature import snake_case

COMPONENTS = [(group, name) for group in GROUPS for name in registry(group).names()]


def is_variant(path: Path) -> bool:
    """Whether a YAML file begins with another one of its folder, of which it changes values."""
    config = yaml_file.load(path)
    first = next(iter(config.get("defaults", [])), None)
    return isinstance(first, str) and path.with_name(f"{first}.yaml").is_file()


@pytest.mark.parametrize("group", GROUPS)
def test_code_and_configs_have_the_same_files(group: str) -> None:
    configs = {path.stem for path in (REPOSITORY / "configs" / group).glob("*.yaml") if not is_variant(path)}
    code = {path.stem for path in (REPOSITORY / "trainer" / group).glob("[!_]*.py")}
    assert configs == code == set(registry(group).names())


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_file_registers_the_component_of_its_name(group: str, name: str) -> None:
    assert registry(group).get(name).__module__.startswith(f"trainer.{group}.")
    assert snake_case(registry(group).get(name).__name__) == name


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_the_yaml_has_exactly_the_keys_of_the_signature(group: str, name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(REPOSITORY / "configs" / group / f"{name}.yaml"))
    assert isinstance(config, dict)
    assert config.pop("name", name) == name
    config.pop("defaults", None)  # the settings that a data set brings along
    assert sorted(config) == sorted(registry(group).keys(name))  # the order of the keys of a shared TypedDict differs


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_defaults_stand_in_the_yaml_alone(group: str, name: str) -> None:
    parameters = inspect.signature(registry(group).get(name)).parameters.values()
    assert [p.name for p in parameters if p.default is not p.empty] == []


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_yaml_opens_with_a_sentence(group: str, name: str) -> None:
    lines = (REPOSITORY / "configs" / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    sentence = next(line for line in lines if not line.startswith("# @package"))
    assert sentence.startswith("# ")
    assert sentence.endswith((".", ":", "outputs")) or ": " in sentence or ". " in sentence


def test_a_name_used_twice_is_an_error() -> None:
    models = Registry("model", [])

    def tiny() -> None: ...

    models.register(tiny)
    assert models.register(tiny) is tiny

    def other() -> None: ...

    other.__name__ = "tiny"
    with pytest.raises(ValueError, match="model=tiny: registered twice"):
        models.register(other)


def test_a_broken_component_does_not_break_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("")
    (tmp_path / "broken.py").write_text("raise RuntimeError")
    assert Registry("model", [str(tmp_path)]).names() == ["broken", "good"]


@pytest.mark.parametrize(
    ("name", "snake"),
    [("CNN", "cnn"), ("CrossEntropy", "cross_entropy"), ("BCEProb", "bce_prob"), ("L1", "l1"), ("adam", "adam")],
)
def test_names_become_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("x = 1\nimport there_is_no_such_module\n", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
        ("x = 1\n", "registers no component called"),
    ],
)
def test_a_component_whose_file_is_broken_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    name = f"broken_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code)
    path = [*trainer.model.__path__, str(tmp_path)]
    monkeypatch.setattr(trainer.model, "__path__", path)
    monkeypatch.setattr(trainer.model.MODELS, "_path", path)
    config = plain_config()
    config["model"] = {"name": name}
    with pytest.raises(ConfigError) as caught:
        check(config)
    (line,) = caught.value.problems
    assert line.startswith(f"model={name}: ")
    assert problem in line
    assert f"{name}.py" in line
