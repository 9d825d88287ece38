"""Sounds in files of their own: WAV, FLAC, Ogg, MP3 and all other formats that libsndfile reads."""

from __future__ import annotations

from typing import cast

from typing_extensions import Unpack

from trainer.data import Data, ReadOptions
from trainer.data.audio import SUFFIXES
from trainer.data.readers.files import Problems
from trainer.data.readers.labels.labelled_files import FileKeys, LabelKeys, find_files
from trainer.data.readers.sounds import SoundKeys, sound_data
from trainer.dataset import DATASETS

NAME = "audio_folder"


class AudioFolderKeys(SoundKeys, LabelKeys):
    """The keys of sounds in files."""


@DATASETS.register
def audio_folder(seed: int, options: ReadOptions, **keys: Unpack[AudioFolderKeys]) -> Data:
    """Read sounds as log-mel spectrograms or waves; average their channels, and resample them to one sample rate.

    Raises:
        ConfigError: as ``find_files`` and ``sound_data``.
    """
    problems = Problems(NAME, keys["on_error"], options.report_all)
    found = find_files(cast(FileKeys, keys), SUFFIXES, "sound", options, problems)
    return sound_data(
        seed,
        found.items,
        lambda some: [file.content for file in some].__getitem__,
        options,
        problems,
        found.labelling,
        **cast(SoundKeys, keys),
    )
