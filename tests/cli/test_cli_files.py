"""`trustml train FILE`: the story of a user with a CSV file, and hostile files."""

import json

import pytest

from trustml.cli import main
from trustml.recipes import TrainConfig
from trustml.recipes.train.loading import load_data, with_task
from trustml.recipes.train.resolve import resolve
from trustml.training.runs.folder import RunFolder

TINY = ["--model", "conv", "--steps", "2", "--batch", "20", "--no-baseline", "--quiet"]
TINY += ["--audit-rows", "20"]
WORDS = {"travel": "book a flight", "music": "play a song", "weather": "will it rain"}


def lines(number=240):
    """Header and rows with `;` between, by sixty users of two regions."""
    names = list(WORDS)
    yield "message;intent;user_id;region\n"
    for n in range(number):
        name = names[n % 3]
        yield f"{WORDS[name]} {n};{name};u{n % 60};{('north', 'south')[n % 60 % 2]}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "messages.csv").write_text("".join(lines()), "utf-8-sig")
    return tmp_path


@pytest.mark.slow
def test_a_file_is_trained_on_by_user_with_groups_and_resumed(folder, capsys, monkeypatch):
    asked = ["messages.csv", "--unit", "user_id", "--group", "region", "--epsilon", "8"]
    assert main(["train", *asked, *TINY]) == 0
    shown = capsys.readouterr().out
    assert "differential privacy under adding or removing one user_id" in shown
    assert "the list of 3 labels; the list of 2 groups" in shown
    assert "column 'message' as text, column 'intent' as label, guessed by their names" in shown
    report = json.loads((folder / "runs/messages-1/report.json").read_text())
    assert report["data"]["name"] == "messages"
    assert report["data"]["privacy_unit"] == "user_id"
    assert report["data"]["train"] + report["data"]["held_out"] < 60
    assert report["data"]["assumed_public"][0] == "the list of 3 labels"
    found = {(one["by"], one["name"]) for one in report["groups"]}
    assert {("protected group", "north"), ("class", "travel")} <= found

    RunFolder(folder / "runs/messages-1").report.unlink()  # as if the run had been interrupted
    monkeypatch.chdir(folder / "runs")
    assert main(["train", "--resume", "messages-1", "--quiet"]) == 0
    again = json.loads((folder / "runs/messages-1/report.json").read_text())
    assert again["notes"] == report["notes"]
    assert again["privacy"]["statement"] == report["privacy"]["statement"]
    assert again["results"]["private"]["metrics"] == report["results"]["private"]["metrics"]


def test_rows_of_a_program(folder, capsys):
    rows = [
        dict(zip(("message", "intent", "user_id"), line.split(";"), strict=False))
        for line in list(lines())[1:]
    ]
    config = TrainConfig(model="conv", unit="user_id", epsilon=8.0, batch=20, audit_rows=0)
    asked = with_task(config, rows)
    assert (asked.data, asked.task) == ("own-rows", "classify")
    assert resolve(asked, rows=rows, quiet=True).unit == "user_id"
    with pytest.raises(ValueError, match="must be given once"):
        with_task(TrainConfig(data="messages.csv"), rows)
    with pytest.raises(ValueError, match=r"resume\(FOLDER, data=ROWS\)"):
        with_task(asked)


HOSTILE = {
    "no such file": (None, [], "absent.csv must be a file, got none of that name"),
    "unknown columns": ("a,b,c\n1,2,3\n", [], "which column is the text and label"),
    "a missing label": ("text,label\nhi,x\nho,\n", [], "line 3: the label in column 'label'"),
    "an empty text": ("text,label\n,x\n", [], "bad.csv line 2: the text is empty"),
    "broken UTF-8": (b"text,label\n\xe9t\xe9,x\n", [], "line 2: column 'text' is not UTF-8"),
    "a header with a name twice": ("text,text\n", [], "the header must name each column"),
    "a ragged row": ("text,label\na\n", [], "bad.csv line 2: 1 fields, must be 2"),
    "NaN": ("text,label\na,NaN\n", [], "bad.csv line 2: the label in column 'label' is missing"),
    "no unit": ("text,label,u\na,x,\n", ["--unit", "u"], "the unit in column 'u' is missing"),
    "one unit": ("text,label,u\n" + "a,x,1\nb,y,1\n" * 9, ["--unit", "u"], "can hide the only"),
    "one label": ("text,label\n" + "a,x\n" * 9, [], "must have two values or more, got x"),
    "no such unit": ("text,label\na,x\n", ["--unit", "user"], "has no column 'user'"),
    "no such part": ("text,label\na,x\n", ["--eval-split", "b.csv"], "such as 0.1, or a file"),
    "a share": ("text,label\na,x\n", ["--eval-split", "2"], "above 0, at most 0.5"),
    "itself": ("text,label\n" + "a,x\nb,y\n" * 99, ["--eval-split", "bad.csv"], "another file"),
    "a short list": ("text,label\na,x\n", ["--labels", "x"], "`labels` must list two or more"),
    "a list without": ("text,label\na,z\n", ["--labels", "x,y"], "'z'; known are x, y"),
    "given twice": ("text,label\na,x\n", ["--data", "bad.csv"], "`--data` bad.csv cannot go with"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_one_line_and_write_nothing(case, tmp_path, capsys, monkeypatch):
    content, flags, message = HOSTILE[case]
    monkeypatch.chdir(tmp_path)
    name = "absent.csv" if content is None else "bad.csv"
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["train", name, *TINY, *flags]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert [path.name for path in tmp_path.iterdir()] == [name] * (content is not None)


def test_an_evaluation_file_with_unknown_labels_is_one_line(folder, capsys):
    (folder / "new.csv").write_text("message,intent,user_id,region\nhi,greeting,u1,north\n")
    assert main(["train", "messages.csv", *TINY, "--eval-split", "new.csv"]) == 2
    shown = capsys.readouterr().err
    assert "new.csv: rows to evaluate on have the label 'greeting'" in shown
    assert shown.count("\n") == 1


def test_a_name_of_the_catalogue_that_is_a_file_too_is_refused(folder, capsys):
    (folder / "snips").write_text("text,label\n")
    assert main(["train", "--data", "snips", *TINY]) == 2
    assert "`--data` snips is a set of the catalogue and a file too" in capsys.readouterr().err


def test_columns_are_not_for_the_catalogue(capsys):
    assert main(["train", "--data", "synthetic", "--text", "message"]) == 2
    assert "`--text` is for files of your own" in capsys.readouterr().err


def test_labels_of_a_file_and_skipped_rows(folder):
    (folder / "labels.txt").write_text("music\ntravel\nweather\nother\n")
    with (folder / "messages.csv").open("a") as file:
        file.write("no label;;u1;north\nragged\n")
    config = TrainConfig(data="messages.csv", labels=("labels.txt",), skip_bad_rows=True)
    asked = with_task(config)
    assert asked.labels == ("music", "travel", "weather", "other")
    made = load_data(asked)
    assert made.splits.train.labels == asked.labels
    assert made.assumed_public == ()
    assert "messages.csv line 242: the label in column 'intent' is missing" in made.skipped[0]
    assert "messages.csv line 243: 1 fields, must be 4" in made.skipped[0]
