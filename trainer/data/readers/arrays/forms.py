"""The forms of files and folders that hold arrays."""

from __future__ import annotations

from pathlib import Path

from trainer.config.untrusted_files import check_file
from trainer.data.readers.arrays import cifar_pickles, matlab, number_texts
from trainer.data.readers.arrays.stores import NPY, NpyFiles, Npz, Store, WrongFormError, npy_folder


def open_store(path: Path) -> Store:
    """Return the store of a file or a folder; only the list of the arrays is read.

    Raises:
        WrongFormError: it has another form.
        OSError, ValueError, …: one of ``UNREADABLE``, for a file that cannot be read.
    """
    if path.is_dir():
        for of_folder in (cifar_pickles.open_folder, number_texts.open_folder, npy_folder):
            found = of_folder(path)
            if found is not None:
                return found
        raise WrongFormError("holds no arrays: .npy files such as X_train.npy and y_train.npy, or another known form")
    check_file(path)
    with path.open("rb") as opened:
        start = opened.read(128)
    if start.startswith(NPY):
        return NpyFiles({path.stem: path})
    if start.startswith(b"PK"):
        return Npz(path)
    if start.startswith(b"MATLAB"):
        return matlab.MatFile(path)
    if matlab.is_version_4(start):
        raise WrongFormError(
            "is a MATLAB file of version 4; save it with save('file.mat', '-v7') in MATLAB, or with scipy.io.savemat"
        )
    raise WrongFormError("is no .npz, .npy or .mat file")  # numpy would take it for a pickle
