"""Texts in folders: files of splits, files with labels beside them, files of classes, class folders; and questions."""

from __future__ import annotations

import gzip
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from trainer.config import ConfigError
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.texts.text_folders import find_texts
from trainer.data.readers.texts.text_tables import TextColumns


def make(root: Path, files: dict[str, str]) -> Path:
    """Write files; a content in one line, such as ``a|b``, has a line for each part."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        lines = content.split("|")
        (root / name).write_text("".join(f"{line}\n" for line in lines) if content else "", encoding="utf-8")
    return root


def items(path: Any, warnings: list[str] | None = None, delimiter: str | None = None) -> list[Item]:
    problems = Problems("text", "stop")
    found = [*find_texts("text", path, TextColumns(None, None, "auto", delimiter), "utf-8", problems)]
    problems.settle()
    if warnings is None:
        assert problems.warnings == []
    else:
        warnings += problems.warnings
    return found


def read(path: Any, warnings: list[str] | None = None, delimiter: str | None = None) -> list[str]:
    """Return ``split/class: text`` of each text, sorted."""
    return sorted(f"{each.split}/{each.label}: {each.content}" for each in items(path, warnings, delimiter))


def refusal(path: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        items(path, [])
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def typed(line: str) -> list[Any]:
    """Return the values of the words ``dataset.path=…`` in a message, as a shell and Hydra read them."""
    words = re.findall(r"'dataset\.path=\{[^']*\}'|dataset\.path=[\w./-]+", line)
    return [value_of(word) for word in words]


def value_of(word: str) -> Any:
    (override,) = OverridesParser.create().parse_overrides(shlex.split(word))
    return override.value()


TWEETS = {
    "train_text.txt": "so glad|oh no|fine|never",
    "train_labels.txt": "1|0|1|0",
    "val_text.txt": "yes",
    "val_labels.txt": "1",
    "test_text.txt": "no|ok",
    "test_labels.txt": "0|1",
    "mapping.txt": "0\tnegative|1\tpositive",
}
TWEETS_READ = [
    *("test/negative: no", "test/positive: ok", "train/negative: never", "train/negative: oh no"),
    *("train/positive: fine", "train/positive: so glad", "val/positive: yes"),
]


def test_texts_have_their_labels_in_files_beside_them(tmp_path: Path) -> None:
    root = make(tmp_path / "tweets", TWEETS)
    assert read(str(root)) == TWEETS_READ
    assert read(str(make(tmp_path / "nested", {f"data/tweets/{name}": each for name, each in TWEETS.items()}))) == (
        TWEETS_READ
    )
    assert items(str(root))[1].place == f"{root}/test_text.txt:2"
    (root / "mapping.txt").rename(root / "readme.txt")
    warnings: list[str] = []
    assert read(str(root), warnings)[-1] == "val/1: yes"
    assert warnings == [f"{root}: left out, as they are no texts or labels: readme.txt"]


def test_pairs_of_files_are_known_by_other_names(tmp_path: Path) -> None:
    wanted = ["train/a: one", "train/b: two"]
    assert read(str(make(tmp_path / "x", {"X_train.txt": "one|two", "y_train.txt": "a|b"}))) == wanted
    made = {"train/texts.txt": "one|two", "train/labels.txt": "a|b", "test/texts.txt": "x", "test/labels.txt": "a"}
    assert read(str(make(tmp_path / "folders", made))) == ["test/a: x", *wanted]
    assert read(str(make(tmp_path / "whole", {"sentences.txt": "one|two", "labels.txt": "a|b"}))) == [
        "/a: one",
        "/b: two",
    ]


def test_texts_without_their_labels_are_left_out_and_unequal_files_refused(tmp_path: Path) -> None:
    root = make(tmp_path, {name: content for name, content in TWEETS.items() if name != "test_labels.txt"})
    warnings: list[str] = []
    assert read(str(root), warnings) == [line for line in TWEETS_READ if not line.startswith("test")]
    assert warnings == [f"{root}: left out, as they have no file of labels: test_text.txt"]
    (root / "train_labels.txt").write_text("1\n0\n1")
    assert f"{root}/train_text.txt has 4 lines and train_labels.txt has 3; " in refusal(str(root))
    (root / "train_labels.txt").write_text("1\n0\n\n2")
    line = refusal(str(root))
    assert f"{root}/train_labels.txt:3: no label; {root}/train_labels.txt:4: label 2 is not in mapping.txt" in line
    (root / "mapping.txt").write_text("0\tbad\n1\tbad\n")
    assert "mapping.txt:2: must be a label, a tab and a name, each of them once, got 1" in refusal(str(root))


LINES = {
    "fastText": ("__label__x one two|__label__y three|__label__x four", "__label__y five"),
    "table": ("x\tone two|y\tthree|x\tfour|y\tthree", "y\tfive six"),
    "table with a header": ("text\tlabel|one two\tx|three\ty|four\tx|three\ty", "text\tlabel|five six\ty"),
    "word": ("x one two|y three|x four|y three", "y five"),
}


@pytest.mark.parametrize("form", LINES)
@pytest.mark.parametrize("given", [False, True])
def test_a_line_may_begin_with_its_label(tmp_path: Path, form: str, given: bool) -> None:
    train, test = LINES[form]
    root = make(tmp_path, {"training_set.txt": train, "test.txt": test})
    path = {"test": str(root / "test.txt"), "train": str(root / "training_set.txt")} if given else str(root)
    warnings: list[str] = []
    found = read(path, warnings)
    assert found[1:4] == ["train/x: four", "train/x: one two", "train/y: three"]
    assert found[0] == ("test/y: five six" if "table" in form else "test/y: five")
    said = [f"{root}/training_set.txt: the first word of each line is taken for its class: x, y"]
    assert warnings == (said if form == "word" else [])


def test_lines_without_a_label_are_refused_and_a_separator_may_be_named(tmp_path: Path) -> None:
    root = make(tmp_path, {"train.txt": "good film;x|bad film;y|fine play;x", "test.txt": "weak play;y|dull film;y"})
    line = refusal(str(root))
    assert f"{root}/train.txt: has no label in its lines that can be found" in line
    assert line.endswith(" such as 'dataset.delimiter=\";\"'")
    assert read(str(root), None, value_of(line.partition("such as ")[2]))[0] == "test/y: dull film"
    double = make(tmp_path / "double", {"train.txt": "__label__x __label__y one|__label__x two"})
    assert f"{double}/train.txt:1: 2 labels instead of 1: __label__x __label__y" in refusal(str(double))


def test_two_files_of_one_split_are_refused_by_name(tmp_path: Path) -> None:
    table = "text,label|good,x|bad,y"
    root = make(tmp_path, {"train.csv": table, "train.tsv": table.replace(",", "\t"), "test.csv": table})
    line = refusal(str(root))
    assert f"{root}: train.csv, train.tsv may each be train; name one of them: " in line
    (path,) = typed(line)
    assert read(path) == ["test/x: good", "test/y: bad", "train/x: good", "train/y: bad"]
    (root / "train.tsv").rename(root / "classes.txt")
    warnings: list[str] = []
    assert read(str(root), warnings) == read(path)
    assert warnings == [f"{root}: left out, as no split of train, val and test: classes.txt"]


@pytest.mark.parametrize(
    ("files", "hinted"),
    [
        ({"dev.txt": "x one|y two|x three|y four", "test.txt": "y five"}, "dev.txt, test.txt"),
        ({"part1.txt": "x one|y two|x three|y four", "part2.txt": "y five"}, "part1.txt, part2.txt"),
        ({"corpus.txt": "x one|y two|x three|y four", "other.txt": "y five"}, "corpus.txt"),
    ],
)
def test_files_that_look_like_parts_are_a_question_whose_answers_work(
    tmp_path: Path, files: dict[str, str], hinted: str
) -> None:
    root = make(tmp_path, files)
    line = refusal(str(root))
    assert f"{root}: {hinted} may be splits or parts of texts by their names, or classes; " in line
    *lines, classes = typed(line)
    assert [len(read(each, [])) for each in lines] == [4] * ("corpus" in hinted or "part1" in hinted or "dev" in hinted)
    warnings: list[str] = []
    assert {each.label for each in items(classes, warnings)} == {Path(name).stem for name in files}
    assert warnings == [f"{root}: taken for classes: {hinted}"]


def test_parts_within_splits_are_a_question(tmp_path: Path) -> None:
    made = {f"{split}/part{number}.txt": "some text" for split in ("train", "test") for number in (1, 2)}
    path = typed(refusal(str(make(tmp_path, made))))[-1]
    assert path == {"train": f"{tmp_path}/train", "test": f"{tmp_path}/test"}
    assert len(read(path, [])) == 4


def test_files_about_the_texts_are_no_classes(tmp_path: Path) -> None:
    made = {"vocab.txt": "the|a", "labels.txt": "pos|neg", "imdbEr.txt": "0.04|-0.3e-5", "urls_pos.txt": "http://x"}
    root = make(tmp_path, {"pos.txt": "good|fine", "neg.txt": "bad", "README.txt": "about", **made})
    warnings: list[str] = []
    assert read(str(root), warnings) == ["/neg: bad", "/pos: fine", "/pos: good"]
    (line,) = warnings
    assert line.startswith(
        f"{root}: left out, as they say something about the data: README.txt, labels.txt, urls_pos.txt and 2"
    )
    assert read(str(make(tmp_path / "numbers", {"even.txt": "2|4", "odd.txt": "1 3|5"}))) == [
        *("/even: 2", "/even: 4", "/odd: 1 3", "/odd: 5")
    ]


def test_the_archive_of_film_reviews_is_read(tmp_path: Path) -> None:
    """The layout is that of aclImdb (Maas et al. 2011)."""
    made = {
        f"{split}/{label}/{at}_7.txt": "text" for split in ("train", "test") for label in ("pos", "neg") for at in "12"
    }
    made |= {"train/unsup/0_0.txt": "text", "imdbEr.txt": "0.1", "imdb.vocab": "a", "train/urls_pos.txt": "http://x"}
    root = make(tmp_path, {f"aclImdb/{name}": content for name, content in made.items()})
    warnings: list[str] = []
    counts = Counter(f"{each.split}/{each.label}" for each in items(str(root), warnings))
    assert counts == {"train/pos": 2, "train/neg": 2, "test/pos": 2, "test/neg": 2}
    train = root / "aclImdb" / "train"
    assert warnings == [
        f"{train}: left out, as samples of no class: unsup",
        f"{train}: 1 file stands beside class folders and is left out: urls_pos.txt",
    ]
    given = {split: str(root / "aclImdb" / split) for split in ("train", "test")}
    assert Counter(f"{each.split}/{each.label}" for each in items(given, [])) == counts


def test_train_may_be_a_class_of_documents(tmp_path: Path) -> None:
    root = make(tmp_path, {f"{label}/{at}.txt": "text" for label in ("bus", "car", "train") for at in (1, 2)})
    warnings: list[str] = []
    assert Counter(each.label for each in items(str(root), warnings)) == {"bus": 2, "car": 2, "train": 2}
    assert warnings == [f"{root}: train is taken for a class, as it holds files as the other folders do"]
    assert "test, train may be splits by their names, or classes" in refusal(str(make(root, {"test/1.txt": "text"})))


def test_splits_of_files_of_classes_may_have_any_usual_name(tmp_path: Path) -> None:
    made = {f"set/my_{split}/{label}.txt": f"{label} one" for split in ("train", "test") for label in ("pos", "neg")}
    root = make(tmp_path, {**made, "set/notes/x.pdf": "", "README.txt": "films"})
    warnings: list[str] = []
    wanted = ["test/neg: neg one", "test/pos: pos one", "train/neg: neg one", "train/pos: pos one"]
    assert read(str(root), warnings) == wanted
    assert warnings == [f"{root}/set: left out, as no split of train, val and test: notes"]


def test_a_folder_without_texts_says_what_to_name(tmp_path: Path) -> None:
    root = make(tmp_path, {"reviews.csv": "text,label|good,x|bad,y"})
    line = refusal(str(root))
    assert "has no class folders in it and no .txt files; a table is named itself, such as " in line
    assert read(typed(line)[0]) == ["/x: good", "/y: bad"]


def test_documents_may_have_no_suffix(tmp_path: Path) -> None:
    root = make(tmp_path / "news", {f"{label}/{at}": "text" for label in ("rec.autos", "sci.space") for at in (1, 2)})
    assert read(str(root)) == ["/rec.autos: text\n"] * 2 + ["/sci.space: text\n"] * 2
    warnings: list[str] = []
    assert len(items(str(make(root, {"sci.space/3.txt": "text", "rec.autos/3.txt": "text"})), warnings)) == 2
    assert warnings == [f"4 files are no text by name and left out, such as {root}/rec.autos/1"]


def test_folders_of_data_sets_are_a_question(tmp_path: Path) -> None:
    root = make(tmp_path, {f"{name}/{file}": each for name in ("first", "second") for file, each in TWEETS.items()})
    line = refusal(str(root))
    assert f"{root}: first, second hold files of splits by their names; " in line
    one, classes = typed(line)
    assert read(one) == TWEETS_READ
    assert Counter(each.label for each in items(classes)) == {"first": 7, "second": 7}


def test_a_file_and_a_folder_of_one_split_are_refused_by_name(tmp_path: Path) -> None:
    table = "text,label|good,x|bad,y"
    root = make(tmp_path, {"train.csv": table, "train/x/1.txt": "text", "train/y/1.txt": "text"})
    line = refusal(str(root))
    assert f"{root}: train.csv, train may each be train; name one of them: " in line
    assert read(typed(line)[0]) == ["train/x: good", "train/y: bad"]
    root = make(tmp_path / "names", {f"{name}.txt": "x" for name in ("train1", "train2", "test")})
    assert "train1.txt, train2.txt may each be train; " in refusal(str(root))
    assert refusal(str(root)).endswith("rename the file, such as train/pos.txt")


def test_folders_of_splits_may_hold_a_table_each(tmp_path: Path) -> None:
    table = "text,label|good,x|bad,y"
    assert read(str(make(tmp_path, {"train/a.csv": table, "test/b.csv": table}))) == [
        *("test/x: good", "test/y: bad", "train/x: good", "train/y: bad")
    ]


def test_every_split_has_the_columns_of_train(tmp_path: Path) -> None:
    """Without them, the numbers of the rows of test would be its labels, as in the files of SST-2."""
    root = make(tmp_path, {"train.tsv": "sentence\tlabel|good\t1|bad\t0", "dev.tsv": "label\tsentence|1\tfine"})
    assert read(str(root)) == ["train/0: bad", "train/1: good", "val/1: fine"]
    make(tmp_path, {"test.tsv": "index\tsentence|0\tfine"})
    warnings: list[str] = []
    assert read(str(root), warnings) == ["train/0: bad", "train/1: good", "val/1: fine"]
    assert warnings == [f"{root}/test.tsv: left out, as it has no column label; test is cut from train"]
    given = {"train": str(root / "train.tsv"), "test": str(root / "test.tsv")}
    assert re.match(r"dataset\.target: label: .*/test\.tsv", refusal(given))
    bare = make(
        tmp_path / "bare", {"train.csv": "so good,x|so bad,y|oh,x|so so,y", "test.csv": "a,very_long|b,very_long"}
    )
    assert read(str(bare))[:2] == ["test/very_long: a", "test/very_long: b"]


def test_packed_tables_are_files_of_splits_too(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"text,label\ngood,x\nbad,y\n"))
    assert read(str(tmp_path)) == ["train/x: good", "train/y: bad"]
    make(tmp_path, {"train.csv": "text,label|good,x|bad,y"})
    assert "train.csv, train.csv.gz may each be train" in refusal(str(tmp_path))


def test_the_files_of_a_single_folder_are_classes_and_that_is_said(tmp_path: Path) -> None:
    warnings: list[str] = []
    root = make(tmp_path, {"films/pos.txt": "good", "films/neg.txt": "bad"})
    assert read(str(root), warnings) == ["/neg: bad", "/pos: good"]
    assert warnings == [f"{root}/films: each file is taken for a class with a text a line"]


def rows(form: str, labels: str, number: int = 12) -> str:
    """Return lines with different texts, one after the other with each of the labels."""
    return "|".join(
        form.format(text=f"text {n} of some words", label=labels[n % len(labels)], n=n) for n in range(number)
    )


@pytest.mark.parametrize(
    "form",
    [
        "{text}\t{label}",
        "{label}\t{text}",
        "{text};{label}",
        "{label},{text}",
        "__label__{label} {text}",
        "{label} {text}",
        '{{"text": "{text}", "label": "{label}"}}',
        "{n}00{n}\t{label}\t{text}",
    ],
)
def test_files_with_labels_in_their_lines_are_one_data_set(tmp_path: Path, form: str) -> None:
    made = {"amazon.txt": rows(form, "xy"), "yelp.txt": rows(form, "yx"), "readme.txt": "about"}
    warnings: list[str] = []
    found = items(str(make(tmp_path / "whole", made)), warnings)
    assert Counter(each.label for each in found) == {"x": 12, "y": 12}
    assert all(re.fullmatch(r"text \d+ of some words", str(each.content)) for each in found)
    assert f"{tmp_path}/whole: left out, as they say something about the data: readme.txt" in warnings
    if form == "{label} {text}":
        return
    split = {f"{split}_{name}": made[f"{name}.txt"] for split in ("train", "test") for name in ("amazon", "yelp")}
    found = items(str(make(tmp_path / "splits", {f"{name}.txt": content for name, content in split.items()})))
    assert Counter(f"{each.split}/{each.label}" for each in found) == {
        f"{split}/{label}": 12 for split in ("train", "test") for label in "xy"
    }


def test_tables_in_text_files_may_have_a_header(tmp_path: Path) -> None:
    made = {f"{name}.txt": "label,text|" + rows('{label},"{text}, and"', "xy") for name in ("a", "b")}
    found = items(str(make(tmp_path, made)))
    assert Counter(each.label for each in found) == {"x": 12, "y": 12}
    assert found[0].content == "text 0 of some words, and"


@pytest.mark.parametrize(
    ("made", "said", "labels"),
    [
        (
            {"a.txt": rows("{text}\t{label}", "xy"), "info.txt": rows("{text}", "x")},
            "labels are in the lines of a.txt, but not in all files in one way",
            [{"x", "y"}, {"a", "info"}],
        ),
        (
            {"sentences.txt": "sentence_index\tsentence|1\tone two|2\tthree four", "ids.txt": "phrase ids|1|2"},
            "sentences.txt begin as tables do, and none has a column of texts and one of labels",
            [{"sentences", "ids"}],
        ),
        (
            {"eng.txt": "the O|dog B-ANIMAL||a O|cat B-ANIMAL", "deu.txt": "der O|Hund B-ANIMAL"},
            "has a word and its label in each line, and a label for each word is not supported",
            [{"eng", "deu"}],
        ),
    ],
)
def test_files_that_hold_something_else_are_classes_only_where_that_is_typed(
    tmp_path: Path, made: dict[str, str], said: str, labels: list[set[str]]
) -> None:
    line = refusal(str(make(tmp_path, made)))
    assert said in line
    assert [{each.label for each in items(path, [])} for path in typed(line)] == labels


def test_names_may_be_a_split_and_a_class(tmp_path: Path) -> None:
    for at, form in enumerate(("{split}_{label}.txt", "{label}-{split}.txt")):
        names = [form.format(split=split, label=label) for split in ("train", "test") for label in ("pos", "neg")]
        root = make(tmp_path / str(at), dict.fromkeys(names, rows("{text}", "x")))
        warnings: list[str] = []
        assert Counter(f"{each.split}/{each.label}" for each in items(str(root), warnings)) == {
            f"{split}/{label}": 12 for split in ("train", "test") for label in ("pos", "neg")
        }
        neg = form.format(split="train", label="neg")
        said = "the names of files are taken for a split and a class"
        assert warnings == [f"{root}: {said}: {neg} is the class neg of train"]
    only_train = make(tmp_path / "train", {f"train_{label}.txt": rows("{text}", "x") for label in ("pos", "neg")})
    assert Counter(f"{each.split}/{each.label}" for each in items(str(only_train), [])) == {
        "train/pos": 12,
        "train/neg": 12,
    }


@pytest.mark.parametrize(
    "names",
    [
        ("train_data.txt", "train_label.txt"),
        ("train.sents.txt", "train.labels.txt"),
        ("train/seq.in", "train/label"),
        ("train.txt", "train.labels"),
        ("comments.txt", "gold.txt"),
        ("sentences.txt", "sentences_labels.txt"),
        ("documents.txt", "classes.txt"),
        ("reviews.txt", "stars.txt"),
    ],
)
def test_labels_may_stand_in_a_file_beside_the_texts_with_another_name(tmp_path: Path, names: tuple[str, str]) -> None:
    texts, labels = names
    made = {texts: rows("{text}", "x"), labels: rows("{label}", "xy")}
    if "seq.in" in texts:
        made["train/seq.out"] = "|".join(["O O B-x O O"] * 12)
        made |= {name.replace("train", "test"): content for name, content in made.items()}
    warnings: list[str] = []
    found = items(str(make(tmp_path, made)), warnings)
    split = "train" if "train" in texts else ""
    assert Counter(each.label for each in found if each.split == split) == {"x": 6, "y": 6}
    assert {each.split for each in found} == ({"train", "test"} if "seq.in" in texts else {split})
    assert f"{tmp_path}/{labels}: its lines are taken for the labels of those of {Path(texts).name}" in warnings


def test_short_texts_that_repeat_are_no_labels_of_another_class(tmp_path: Path) -> None:
    made = {"greet.txt": "|".join(["hi there", "good day", "hello"] * 4), "ask.txt": rows("{text}", "x")}
    assert {each.label for each in items(str(make(tmp_path, made)))} == {"greet", "ask"}


def test_files_without_a_usual_suffix_are_read(tmp_path: Path) -> None:
    root = make(tmp_path / "sms", {"SMSSpamCollection": rows("{label}\t{text}", "hs"), "readme": "about"})
    assert Counter(each.label for each in items(str(root), [])) == {"h": 6, "s": 6}
    assert len(items(str(root / "SMSSpamCollection"))) == 12
    films = make(tmp_path / "films", {f"rt-polarity.{label}": rows("{text}", "x") for label in ("pos", "neg")})
    assert Counter(each.label for each in items(str(films))) == {"pos": 12, "neg": 12}
    line = refusal(
        str(
            make(
                tmp_path / "trec", dict.fromkeys(("train_5500.label", "TREC_10.label"), rows("{label}:z {text}", "XY"))
            )
        )
    )
    assert Counter(f"{each.split}/{each.label}" for each in items(typed(line)[0], [])) == {
        f"{split}/{label}:z": 6 for split in ("train", "test") for label in "XY"
    }


def test_a_test_table_without_the_columns_of_train_is_left_out_without_a_header_too(tmp_path: Path) -> None:
    """The layout is that of CoLA in GLUE."""
    made = {"train.tsv": rows("gj04\t{label}\t\t{text}", "01"), "test.tsv": "index\tsentence|0\tone two|1\tthree"}
    warnings: list[str] = []
    assert Counter(each.label for each in items(str(make(tmp_path, made)), warnings)) == {"0": 6, "1": 6}
    assert warnings == [f"{tmp_path}/test.tsv: left out, as it has no column 3; test is cut from train"]


def test_a_single_file_is_no_class_and_the_end_of_a_name_may_be_a_split(tmp_path: Path) -> None:
    line = refusal(str(make(tmp_path / "one", {"all_sentences.txt": rows("{text}@{label}", "xy")})))
    assert "all_sentences.txt: has no label in its lines that can be found" in line
    made = {f"stsa.binary.{split}": rows("{label} {text}", "01") for split in ("train", "dev", "test")}
    found = items(str(make(tmp_path / "splits", made)), [])
    assert Counter(each.split for each in found) == {"train": 12, "val": 12, "test": 12}
    assert {each.label for each in found} == {"0", "1"}


def stripped(path: Any, warnings: list[str] | None = None) -> list[str]:
    return [each.strip() for each in read(path, warnings)]


def test_folders_of_texts_that_may_be_no_classes_are_asked_about(tmp_path: Path) -> None:
    made = {f"{part}/{part}/{label}/1.txt": f"{part} {label}" for part in ("original", "augmented") for label in "ab"}
    line = refusal(str(make(tmp_path / "copies", made)))
    assert "augmented, original hold the same folders (a, b)" in line
    alone, each = typed(line)
    assert stripped(alone) == ["/a: original a", "/b: original b"]
    assert [text.partition(":")[0] for text in stripped(each, [])] == ["train/augmented"] * 2 + ["train/original"] * 2
    made = {f"{split}/{part}/{label}/1.txt": part for split in ("train", "test") for part in "xy" for label in "ab"}
    line = refusal(str(make(tmp_path / "splits", made)))
    assert "x, y hold the same folders (a, b): they may be parts of each split, or classes" in line
    assert stripped(typed(line)[0]) == ["test/a: x", "test/b: x", "train/a: x", "train/b: x"]
    made = {f"{label}/data/{split}/1.txt": split for split in ("train", "test") for label in "ab"}
    assert stripped(str(make(tmp_path / "above", made))) == [
        "test/a: test",
        "test/b: test",
        "train/a: train",
        "train/b: train",
    ]


def test_short_names_of_splits_of_texts_are_known_for_folders_and_asked_about_for_files(tmp_path: Path) -> None:
    warnings: list[str] = []
    made = {f"{split}/{label}/1.txt": split for split in ("tr", "te") for label in "ab"}
    wanted = ["test/a: te", "test/b: te", "train/a: tr", "train/b: tr"]
    root = make(tmp_path / "folders", made)
    assert stripped(str(root), warnings) == wanted
    assert warnings == [f"{root}: taken for splits: tr is train, te is test"]
    root = make(tmp_path / "files", {"tr.txt": "a tr|b tr|a 2|b 2", "te.txt": "a te|b te"})
    line = refusal(str(root))
    assert "te.txt, tr.txt may be splits or parts of texts by their names, or classes" in line
    assert stripped(typed(line)[0], []) == [*wanted[:2], "train/a: 2", "train/a: tr", "train/b: 2", "train/b: tr"]
    assert stripped(typed(line)[1], [])[:2] == ["train/te: a te", "train/te: b te"]
    (root / "en.txt").write_text("x\n")
    assert stripped(str(root), [])[0] == "/en: x"
