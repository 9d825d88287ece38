"""Sounds in class folders: WAV, FLAC, Ogg, MP3 and all other formats that libsndfile reads."""

from __future__ import annotations

from typing_extensions import Unpack

from trainer.data import Data, ReadOptions
from trainer.data.audio import SUFFIXES
from trainer.data.readers.files import Problems, keep_suffixes
from trainer.data.readers.folders import class_folders
from trainer.data.readers.sounds import SoundKeys, sound_data
from trainer.dataset import DATASETS

NAME = "audio_folder"


@DATASETS.register
def audio_folder(seed: int, options: ReadOptions, **keys: Unpack[SoundKeys]) -> Data:
    """Read sounds as log-mel spectrograms or waves; average their channels, and resample them to one sample rate.

    Raises:
        ConfigError: as ``class_folders`` and ``sound_data``.
    """
    problems = Problems(NAME, keys["on_error"], options.report_all)
    files = keep_suffixes(class_folders(NAME, keys["path"], problems, SUFFIXES), SUFFIXES, "sound", problems)
    return sound_data(seed, files, lambda some: [file.content for file in some].__getitem__, options, problems, **keys)
