"""Files that hold tables but are not read: say what they are, and in which format to save them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trainer.config import ConfigError
from trainer.data.readers.tables.lines import PACKED

_SHEET = "is a spreadsheet, which is not read; save its sheet as CSV"
_ARCHIVE = "is an archive, which is not read; unpack it, and name the table in it"
_DATABASE = "is a database, which is not read; export the table as CSV"
_R = "is a file of R, which is not read; save the table with write.csv in R"
_PICKLE = "is a pickle, which can run code when it is loaded and is not read; save the table with to_parquet or to_csv"
_PANDAS = "is not read; read it with {} of pandas, and save the table with to_parquet or to_csv"
FOREIGN = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys((".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".db3", ".mdb", ".accdb", ".duckdb"), _DATABASE),
    **dict.fromkeys((".rds", ".rdata", ".rda"), _R),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".sav", ".zsav"), f"is a file of SPSS, which {_PANDAS.format('read_spss')}"),
    ".dta": f"is a file of Stata, which {_PANDAS.format('read_stata')}",
    **dict.fromkeys((".sas7bdat", ".xpt"), f"is a file of SAS, which {_PANDAS.format('read_sas')}"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), f"is an HDF5 file, which {_PANDAS.format('read_hdf')}"),
    ".orc": f"is an ORC file, which {_PANDAS.format('read_orc')}",
    ".avro": "is an Avro file, which is not read; save the table as Parquet",
}
LOOKED_AT = 4096  # bytes
# The beginnings of files, for those whose name says something else.
SIGNS = {
    b"PK\x03\x04": "is a zip file or a spreadsheet; save its sheet as CSV, or let the name end in .zip",
    b"\xd0\xcf\x11\xe0": _SHEET,
    b"\x1f\x8b": "is packed with gzip; let the name end in .gz",
    b"BZh": "is packed with bzip2; let the name end in .bz2",
    b"\xfd7zXZ\x00": "is packed with xz; let the name end in .xz",
    b"\x28\xb5\x2f\xfd": "is packed with zstd, which is not read; unpack it",
    b"PAR1": "is a Parquet file; let the name end in .parquet",
    b"ARROW1": "is a Feather file; let the name end in .feather",
    b"FEA1": "is a Feather file; let the name end in .feather",
    b"\x89HDF": FOREIGN[".h5"],
    b"SQLite format 3": _DATABASE,
    b"RDX": _R,
    b"\x93NUMPY": "is an array of NumPy; dataset=npz reads it",
}


def refuse_foreign(file: Path) -> None:
    """Raise ConfigError with what to do if a file is of a format that is not read, by its name or first bytes.

    Raises:
        ConfigError: it is.
    """
    packed = file.suffix.lower() in PACKED
    endings = [suffix.lower() for suffix in file.suffixes[-2 if packed else -1 :]]
    known = next((FOREIGN[ending] for ending in endings if ending in FOREIGN), "")
    if known or packed or not file.is_file():
        if known:
            raise ConfigError(f"dataset.path: {file}: {known}")
        return
    with contextlib.suppress(OSError), file.open("rb") as stored:
        start = stored.read(LOOKED_AT)
        is_text = b"\0" not in start  # in which PAR1 may be the name of a column
        sign = next((sign for sign in SIGNS if start.startswith(sign) and not (sign.isascii() and is_text)), b"")
        if sign:
            raise ConfigError(f"dataset.path: {file}: {SIGNS[sign]}")
