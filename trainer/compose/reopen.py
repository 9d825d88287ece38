"""The settings of a finished run, from its config.yaml, with what may be changed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.compose import plugins
from trainer.compose.composer import Composer, settle
from trainer.config import ConfigError, Settings
from trainer.config.settings import key_of
from trainer.runs.directory import CONFIG

# What may be otherwise when a run is looked at again: not what was trained, or how.
AFTERWARDS = ("dataset", "device", "batch_size", "limit_batches", "precision", "plugins")


def again(folder: Path, words: Sequence[str]) -> Settings:
    """The settings of a run that has been, from its config.yaml alone, with what ``words`` say otherwise.

    Raises:
        ConfigError: with every mistake: the config cannot be used, a word is not for a run that has been, or the run
            has components of plugins that nobody names now.
    """
    from trainer.runs import resume

    file = folder / CONFIG
    plain = resume.load_config(file)
    foreign = [word for word in words if key_of(word).split(".")[0].split("/")[0] not in AFTERWARDS]
    if foreign:
        keys = ", ".join(AFTERWARDS)
        raise ConfigError(*(f"{word}: would be another run; what may be otherwise now: {keys}" for word in foreign))
    typed = {key_of(word) for word in words}
    needed = [str(name) for name in plain.get("plugins") or []]
    if needed and "plugins" not in typed and not {*needed} <= {*plugins.from_environment()}:
        code = ", ".join(needed)
        raise ConfigError(
            f"the run {folder} has components of {code}; if you trust it, name it again: plugins=[{code}]"
        )
    plain["plugins"] = []
    if words:
        below = {key.partition(".")[0] for key in typed if "." in key}
        choices = [f"{group}={plain[group]['name']}" for group in ("dataset", "device") if group in below - typed]
        now = Composer().check([*choices, *words], trains=True)[0].to_dict()
        for key in typed:
            node, there, (*parents, leaf) = plain, now, key.split(".")
            for name in parents:
                node, there = node.setdefault(name, {}), there[name]
            node[leaf] = there[leaf]
    else:
        plugins.require([])
    if plain.get("device", {}).get("name") in ("ddp", "fsdp", "dp"):  # which trains in several; one is enough now
        plain["device"] = {"name": "auto"}
    return settle(plain, lambda key: str(file))
