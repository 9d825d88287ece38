"""Sounds in class folders: wav, flac, ogg, mp3 and whatever else libsndfile reads."""

from __future__ import annotations

from typing_extensions import Unpack

from trainer.data import Data, ReadOptions
from trainer.data.audio import SUFFIXES
from trainer.data.readers.files import Problems, class_folders, keep_suffixes
from trainer.data.readers.sounds import SoundKeys, sound_data
from trainer.dataset import DATASETS

NAME = "audio_folder"


@DATASETS.register
def audio_folder(seed: int, options: ReadOptions, **keys: Unpack[SoundKeys]) -> Data:
    """Read sounds as log-mel spectrograms or as waves: the mean of their channels, all resampled to one rate.

    Raises:
        ConfigError: there are no class folders, or as ``sound_data``.
    """
    problems = Problems(NAME, keys["on_error"], options.report_all)
    files = keep_suffixes(class_folders(NAME, keys["path"], problems), SUFFIXES, "sound", problems)
    return sound_data(seed, files, lambda some: [file.content for file in some].__getitem__, options, problems, **keys)
