"""Texts from tables, lines and documents; tokens, and a vocabulary of train alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Train
from tests.helpers import assert_same_batches, load_data
from trainer.config import ConfigError
from trainer.data import Data, Split
from trainer.data.random_numbers import SampleRandom
from trainer.data.readers.texts.tokens import TokenDropout, Tokenizer

GOOD, BAD = "a good and funny film", "a bad and boring film"


def load(path: Path | dict[str, Path], seed: int = 0, **changes: Any) -> Data:
    return load_data("text", path, seed, **{"min_count": 1, **changes})


def rows(count: int = 10) -> list[tuple[str, str]]:
    return [(f"{GOOD if number % 2 else BAD} {number}", "pos" if number % 2 else "neg") for number in range(count)]


def write_lines(folder: Path, **lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for label, texts in lines.items():
        (folder / f"{label}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder


def read_back(data: Data, split: Split) -> list[tuple[str, str]]:
    """The texts of a split, from its numbers, with their classes."""
    tokens, lengths = split.source.fetch(split.positions)
    vocabulary = data.preprocess["vocabulary"]
    texts = [
        " ".join(vocabulary[number] for number in row[:length]) for row, length in zip(tokens, lengths, strict=True)
    ]
    return sorted(zip(texts, (data.spec.classes[target] for target in split.targets), strict=True))


def everything(data: Data) -> list[tuple[str, str]]:
    return sorted(sample for split in data.splits().values() for sample in read_back(data, split))


UNSPLIT: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.2}


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "no header", "numbered", "lines", "documents"])
def test_every_form_holds_the_same_samples(tmp_path: Path, form: str) -> None:
    samples, keys = rows(), dict[str, Any]()
    path = tmp_path / "data.csv"
    if form == "csv":
        path.write_text("text,label\n" + "".join(f'"{words}",{label}\n' for words, label in samples))
    elif form == "tsv":
        path = tmp_path / "data.tsv"
        path.write_text("label\tsentence\n" + "".join(f"{label}\t{words}\n" for words, label in samples))
    elif form == "jsonl":
        path = tmp_path / "data.jsonl"
        path.write_text(
            "".join(json.dumps({"review": words, "stars": 1, "label": label}) + "\n" for words, label in samples)
        )
    elif form == "no header":
        path.write_text("".join(f"{label},{words}\n" for words, label in samples))
    elif form == "numbered":
        path.write_text("".join(f"{number},{words},{label}\n" for number, (words, label) in enumerate(samples)))
        keys = {"input": 1, "target": 2}
    elif form == "lines":
        path = write_lines(
            tmp_path / "d", **{each: [w for w, label in samples if label == each] for each in ("pos", "neg")}
        )
    else:
        path = tmp_path / "d"
        for number, (words, label) in enumerate(samples):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{number}.txt").write_text(words)
    data = load(path, **UNSPLIT, **keys)
    assert data.spec.classes == ("neg", "pos")
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 6, "val": 2, "test": 2}
    found = [(set(words.split()) - {"<unknown>"} - set("0123456789"), label) for words, label in everything(data)]
    wanted = [(set((GOOD if label == "pos" else BAD).split()), label) for _, label in samples]
    assert sorted(map(repr, map(sorted_pair, found))) == sorted(map(repr, map(sorted_pair, wanted)))
    assert data.spec.shape == (6,)
    assert data.spec.varying


def sorted_pair(pair: tuple[set[str], str]) -> tuple[list[str], str]:
    return sorted(pair[0]), pair[1]


@pytest.mark.parametrize("form", ["folders of lines", "files", "mapping"])
def test_splits_that_are_there_are_taken(tmp_path: Path, form: str) -> None:
    path: Path | dict[str, Path] = tmp_path
    if form == "folders of lines":
        for split, count in (("train", 4), ("valid", 2), ("test", 3)):
            write_lines(tmp_path / split, pos=[GOOD] * count, neg=[BAD] * count)
    else:
        for split, count in (("train", 4), ("val", 2), ("test", 3)):
            table = "".join(f"{words},{label}\n" for words, label in [(GOOD, "pos"), (BAD, "neg")] * count)
            (tmp_path / f"{split}.csv").write_text("text,label\n" + table)
        if form == "mapping":
            path = {split: tmp_path / f"{split}.csv" for split in ("train", "val", "test")}
    data = load(path)
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 8, "val": 4, "test": 6}
    assert read_back(data, data.test) == [(BAD, "neg")] * 3 + [(GOOD, "pos")] * 3


def test_the_vocabulary_is_that_of_train_alone_most_frequent_first(tmp_path: Path) -> None:
    write_lines(tmp_path / "train", pos=["b b b a c", "b a"], neg=["a c", "rare"])
    write_lines(tmp_path / "test", pos=["a strange word"], neg=["b strange rare"])
    data = load(tmp_path, min_count=2, val_fraction=0.0)
    assert data.preprocess["vocabulary"] == ["<padding>", "<unknown>", "b", "a", "c"]
    assert data.spec.vocabulary == 5
    assert read_back(data, data.test) == [("a <unknown> <unknown>", "pos"), ("b <unknown> <unknown>", "neg")]
    few = load(tmp_path, vocabulary=2, val_fraction=0.0)
    assert few.preprocess["vocabulary"] == ["<padding>", "<unknown>", "b", "a"]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"tokens": "words", "lowercase": True, "max_length": None}, ["don't", "stop", ",", "café", "no", "1", "!"]),
        ({"tokens": "words", "lowercase": False, "max_length": 3}, ["Don't", "stop", ","]),
        ({"tokens": "characters", "lowercase": False, "max_length": 5}, ["D", "o", "n", "'", "t"]),
    ],
)
def test_a_text_is_cut_into_words_and_signs_or_characters(keys: dict[str, Any], wanted: list[str]) -> None:
    assert Tokenizer(**keys)("Don't stop, café No 1!") == wanted


def test_texts_on_the_disk_give_the_same_batches_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.readers.texts.vocabulary.CHUNK", 7)  # the file is written in many parts
    path = write_lines(tmp_path / "d", pos=[f"{GOOD} {n}" * (1 + n % 3) for n in range(20)], neg=[BAD] * 20)
    augment = {"drop": 0.3}
    resident, streamed = load(path, augment=augment), load(path, augment=augment, in_memory=False, workers=2)
    assert (resident.in_memory, streamed.in_memory) == ("auto", False)
    assert resident.fingerprint() == streamed.fingerprint()
    assert_same_batches(resident, streamed)


def test_dropped_tokens_are_unknown_and_padding_stays() -> None:
    tokens, lengths = torch.full((500, 20), 7), torch.full((500,), 15)
    tokens[:, 15:] = 0
    changed, same = TokenDropout(0.25)((tokens, lengths), SampleRandom(torch.arange(500), 0))
    assert torch.equal(same, lengths)
    assert set(changed[:, :15].unique().tolist()) == {1, 7}
    assert set(changed[:, 15:].unique().tolist()) == {0}
    assert (changed == 1).sum() / (500 * 15) == pytest.approx(0.25, abs=0.02)
    shorter, _ = TokenDropout(0.25)((tokens[:, :17], lengths), SampleRandom(torch.arange(500), 0))
    assert torch.equal(shorter, changed[:, :17])  # whatever it is padded to


def bad_lines(folder: Path) -> None:
    write_lines(folder, pos=[GOOD] * 6, neg=[BAD] * 6)
    (folder / "neg.txt").write_bytes(f"{BAD}\n{BAD}\ncaf\xe9\n{BAD}\n".encode("latin-1") * 2)


def bad_columns(folder: Path) -> None:
    folder.mkdir()
    lines = [f"{words},{label}" for words, label in rows()]
    (folder / "train.csv").write_text(
        "\n".join(["text,label", *lines[:3], "one column", *lines[3:], ",pos", "x,"]) + "\n"
    )


def bad_json(folder: Path) -> None:
    folder.mkdir()
    lines = [json.dumps({"text": words, "label": label}) for words, label in rows()]
    (folder / "train.jsonl").write_text("\n".join([*lines, '{"text": "a"', '{"text": "a"}', "[1]"]) + "\n")


def empty_class(folder: Path) -> None:
    write_lines(folder, pos=[GOOD] * 6, neg=[BAD] * 6)
    (folder / "none.txt").write_text("\n\n")


def class_of_test(folder: Path) -> None:
    write_lines(folder / "train", pos=[GOOD] * 6, neg=[BAD] * 6)
    write_lines(folder / "test", pos=[GOOD], neg=[BAD], odd=[BAD, BAD])


def empty_document(folder: Path) -> None:
    for label in ("pos", "neg"):
        (folder / label).mkdir(parents=True)
        for number in range(6):
            (folder / label / f"{number}.txt").write_text(GOOD if label == "pos" else BAD)
    (folder / "pos" / "7.txt").write_text("  \n")


BAD_DATA = {
    bad_lines: ["2 bad samples: ", "neg.txt:3: byte 0xe9 is no utf-8; dataset.encoding=latin-1 or cp1252 may be right"],
    bad_columns: ["3 bad samples: ", "train.csv:5: 1 column instead of 2", "train.csv:13: no text", ":14: no label"],
    bad_json: [
        "3 bad samples: ",
        "train.jsonl:11: no JSON",
        "train.jsonl:12: no label",
        ":13: must be an obj",
    ],
    empty_class: ["1 bad sample: ", "none.txt: a class without a line"],
    class_of_test: ["1 bad sample: ", "odd.txt:1: class odd is in test (2 samples) but not in train"],
    empty_document: ["1 bad sample: ", "7.txt: no text"],
}


@pytest.mark.parametrize("make", BAD_DATA, ids=lambda make: make.__name__)
def test_bad_data_is_named_and_refused_or_left_out(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "d")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "d")
    (line,) = refused.value.problems
    assert all(part in line for part in BAD_DATA[make]), line
    data = load(tmp_path / "d", on_error="skip")
    assert len(data.warnings) == 1
    assert BAD_DATA[make][-1].split(";")[0] in data.warnings[0]
    words = {word for sample, _ in everything(data) for word in sample.split()}
    assert {"good", "bad"} <= words
    assert not words & {"caf", "one", "odd"}
    assert data.spec.classes == ("neg", "pos")


@pytest.mark.parametrize(
    ("content", "keys", "wanted"),
    [
        ("text,label\n", {}, "dataset.path: .*: has no rows"),
        ("text,label\na,x\n", {}, "dataset=text: only 1 class, x; there must be at least 2 to tell apart"),
        (
            "text,label\na,x\nb,y\n",
            {"target": "labl"},
            "dataset.target: labl: .* did you mean label\\? columns: text, label",
        ),
        ("a,x\nb,y\n", {"target": 2}, "dataset.target: 2: .* has the columns 0 to 1"),
        ("a,x,1\nb,y,2\n", {}, "dataset.input: null: which column of .* holds the text\\? columns: 0 \\(a\\), 1"),
        ("a,x\nb,y\n", {"encoding": "utf-9"}, "dataset.encoding: utf-9: no such encoding"),
        (
            "a,x\nb,y\n",
            {"header": False, "input": "text"},
            "dataset.input: text: .* names no columns; say a number, 0 to 1",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: str, keys: dict[str, Any], wanted: str) -> None:
    (tmp_path / "d.csv").write_text(content)
    with pytest.raises(ConfigError, match=wanted):
        load(tmp_path / "d.csv", **keys)


def test_other_encodings_can_be_read(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16", "utf-8-sig"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes("text,label\n".encode(encoding) if encoding != "utf-16" else b"")
        path.write_text(
            "text,label\n" + "".join(f"café {number},{number % 2}\n" for number in range(10)), encoding=encoding
        )
        data = load(path, encoding=encoding.removesuffix("-sig"), val_fraction=0.2, test_fraction=0.2)
        assert "café" in data.preprocess["vocabulary"]


@pytest.mark.parametrize("model", ["cnn", "gru", "lstm"])
def test_every_model_learns_texts(train: Train, tmp_path: Path, model: str) -> None:
    path = write_lines(
        tmp_path / "d", pos=[f"{GOOD} {n}" for n in range(30)], neg=[f"{BAD} {n} {n}" for n in range(30)]
    )
    words = ("dataset=text", f"dataset.path={path}", f"model={model}", "epochs=12", "logger=none", "optimizer.lr=1e-2")
    result = train(*words)
    assert result.code == 0, result.err
    assert result.summary["test/accuracy"] == 1.0


def test_the_real_sentences_are_all_there(data_root: Path) -> None:
    folder = data_root / "rt_polarity"
    if not folder.is_dir():
        pytest.skip(f"no rt_polarity in {data_root}")
    data = load(folder)
    assert sum(map(len, data.splits().values())) == 10662
    assert data.spec.classes == ("neg", "pos")
    assert len(data.test) == 1066
    other = load(folder, seed=1)
    assert torch.equal(other.test.positions, data.test.positions)
    assert not torch.equal(load(folder, test_seed=1).test.positions, data.test.positions)
    assert dataclasses.replace(data, in_memory=False).fingerprint() == data.fingerprint()


def test_a_header_of_unusual_names_is_known_by_its_label(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("phrase,stars\n" + "".join(f"{words},{label}\n" for words, label in rows(20)))
    data = load(tmp_path / "d.csv", **UNSPLIT)
    assert data.spec.classes == ("neg", "pos")
    assert sum(map(len, data.splits().values())) == 20


def test_files_beside_the_classes_are_left_out_and_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "lines", pos=[GOOD] * 9, neg=[BAD] * 9, README=["where they are from"])
    data = load(tmp_path / "lines")
    assert data.spec.classes == ("neg", "pos")
    assert "README.txt" in data.warnings[0]
    for label in ("pos", "neg"):  # as in the archive of film reviews of Maas et al. 2011
        (tmp_path / "documents" / label).mkdir(parents=True)
        (tmp_path / "documents" / f"urls_{label}.txt").write_text("somewhere\n" * 9)
        for number in range(9):
            (tmp_path / "documents" / label / f"{number}.txt").write_text(GOOD if label == "pos" else BAD)
    data = load(tmp_path / "documents")
    assert data.spec.classes == ("neg", "pos")
    assert "2 files stand beside class folders and are left out: urls_neg.txt, urls_pos.txt" in data.warnings[0]


def test_mostly_unknown_tokens_are_said(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d", pos=[f"p{n}" for n in range(20)], neg=[f"n{n}" for n in range(20)])
    assert "100 % of the tokens of train are unknown" in load(path, min_count=2).warnings[0]
    assert load(path, tokens="characters").warnings == ()


def test_classes_whose_numbers_are_alike_have_one_order(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d", **{"1": [GOOD] * 5, "01": [BAD] * 5, "10²": [BAD] * 5, "2": [GOOD] * 5})
    assert load(path).spec.classes == ("01", "1", "2", "10²")


def test_of_columns_that_may_hold_the_label_the_one_with_the_fewest_classes_is_proposed(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    lines = [f"{GOOD} {n},{('good', 'bad')[n % 2]},{n % 5 + 1}" for n in range(30)]
    file.write_text("\n".join(["comment,polarity of it,stars", *lines]) + "\n")
    with pytest.raises(ConfigError, match=r"""; such as 'dataset.target="polarity of it"'$"""):
        load(file)
    assert load(file, target="polarity of it").spec.classes == ("bad", "good")


def test_tables_without_a_header_keep_their_first_rows_in_every_split(tmp_path: Path) -> None:
    for name, first in (("train", 2), ("test", 1)):  # 1 and 0 are numbers of columns too
        lines = [f"{(n + first) % 3},{GOOD} {n}" for n in range(30)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    data = load(tmp_path, val_fraction=0)
    assert (len(data.train), len(data.test)) == (30, 30)
    assert data.notes[:2] == ("texts 1", "target 0")
