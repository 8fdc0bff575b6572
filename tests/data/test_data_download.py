"""Downloads from a server on this machine: whole and verified, or refused in one line."""

import functools
import gzip
import hashlib
import http.server
import json
import threading
import time

import pytest

from trustml import data
from trustml.cli import data as command
from trustml.data import catalogue, converters
from trustml.data.catalogue import CATALOGUE, DataFile
from trustml.data.errors import DataError
from trustml.data.transfer import cache_folder, retrieve

BODY = b"".join(b"IN: jump %d OUT: I_JUMP\n" % number for number in range(20_000))


def run(*arguments):
    """`trustml data` with these arguments."""
    return command.run(arguments)


class _Publisher(http.server.BaseHTTPRequestHandler):
    """Answers by path: /whole, /cut (once or always), /slow, /busy, and what `files` holds."""

    def log_message(self, *arguments):
        del arguments

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        kind = self.path.split("/")[1]
        again = sum(path == self.path for path, _ in self.server.asked) > 1
        if kind == "slow":
            time.sleep(self.server.delay)
        if kind == "busy" and not again:
            self.send_error(503)
            return
        body = self.server.files.get(self.path, BODY if kind in _KINDS else None)
        if body is None:
            self.send_error(404)
            return
        start = self._start(body, kind)
        if start >= len(body):
            self.send_error(416)
            return
        sent = body[start : start + len(body) // 2] if self._breaks(kind, again) else body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(sent)

    def _start(self, body, kind):
        asked = self.headers.get("Range")
        if not asked or kind == "restarts":
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _breaks(self, kind, again):
        return kind == "cut" or (kind in ("once", "restarts") and not again)


_KINDS = ("whole", "cut", "once", "restarts", "slow", "busy")


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Publisher) as running:
        running.asked, running.files, running.delay = [], {}, 1.0
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path):
    def get(kind, **options):
        options = {"attempts": 2, "pause": 0.01, "timeout": 5.0} | options
        return retrieve(f"{server.address}/{kind}/file", tmp_path / "partial", **options)

    return get


# One address


def test_a_whole_answer_is_read_and_reported(get, server):
    seen = []
    assert get("whole", report=lambda done, total: seen.append((done, total))) == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) > 1
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_continued(get, server):
    assert get("once") == BODY
    assert server.asked[1][1] == f"bytes={len(BODY) // 2}-"


def test_a_server_that_cannot_continue_starts_anew(get, server):
    assert get("restarts") == BODY
    assert len(server.asked) == 2


def test_a_partial_file_of_an_earlier_call_is_continued(get, server, tmp_path):
    (tmp_path / "partial").write_bytes(BODY[:1000])
    assert get("whole") == BODY
    assert server.asked == [("/whole/file", "bytes=1000-")]


def test_a_partial_file_that_nothing_follows_is_fetched_anew(get, server, tmp_path):
    (tmp_path / "partial").write_bytes(b"x" * len(BODY))
    assert get("whole") == BODY
    assert [asked for _, asked in server.asked] == [f"bytes={len(BODY)}-", None]


def test_a_busy_server_is_asked_again(get, server):
    assert get("busy") == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("kind", "options", "message", "asked"),
    [
        ("cut", {"attempts": 1}, rf"cut off after \d+ of {len(BODY)} bytes, 1 times", 1),
        ("slow", {"timeout": 0.1}, r"no answer in 0\.1 s, 2 times", 2),
        ("busy", {"attempts": 1}, "answer 503 Service Unavailable, 1 times", 1),
        ("none", {}, "answer 404 Not Found", 1),
    ],
)
def test_an_answer_that_does_not_come_is_named_in_one_line(
    get, server, kind, options, message, asked
):
    server.delay = 0.5
    with pytest.raises(DataError, match=message) as caught:
        get(kind, **options)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == asked


def test_no_server_and_no_address_are_refused_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be downloaded.*refused"):
        retrieve("http://127.0.0.1:9/file", tmp_path / "partial", pause=60.0)
    with pytest.raises(DataError, match="must be an http or https address, got 'file:///etc"):
        retrieve("file:///etc/hosts", tmp_path / "partial")
    assert time.monotonic() - start < 30


# A data set


@pytest.fixture
def scan(server, monkeypatch):
    """The catalogue with small files behind the name "scan"."""
    contents = {"train_simple.txt": BODY, "test_simple.txt": b"IN: run OUT: I_RUN\n"}
    files = tuple(
        DataFile(name, None, hashlib.sha256(body).hexdigest(), "who/what@0123", f"split/{name}")
        for name, body in contents.items()
    )
    known = catalogue._files()
    monkeypatch.setattr(catalogue, "_files", lambda: {**known, "scan": files})
    server.files = {f"/split/{name}": body for name, body in contents.items()}
    return functools.partial(
        data.fetch, "scan", publisher=server.address, progress=False, pause=0.01, attempts=2
    )


def test_a_set_is_fetched_once_and_loads(scan, server, tmp_path):
    folder = scan(tmp_path)
    assert folder == tmp_path / "scan"
    assert sorted(path.name for path in folder.iterdir()) == ["test_simple.txt", "train_simple.txt"]
    parts = data.load("scan", tmp_path)
    assert len(parts.train) + len(parts.valid) == 20_000
    assert "checksum of the published file" in parts.train.source
    asked = len(server.asked)
    scan(tmp_path)
    assert len(server.asked) == asked


def test_a_file_that_was_changed_is_fetched_anew(scan, tmp_path):
    folder = scan(tmp_path)
    (folder / "test_simple.txt").write_text("IN: other OUT: OTHER\n")
    scan(tmp_path)
    assert (folder / "test_simple.txt").read_text() == "IN: run OUT: I_RUN\n"


def test_another_content_is_refused_and_leaves_nothing(scan, server, tmp_path):
    server.files["/split/test_simple.txt"] = b"IN: something OUT: ELSE\n"
    with pytest.raises(
        DataError, match=r"test_simple\.txt: the download has SHA-256.*TRUSTML_DATA"
    ):
        scan(tmp_path)
    assert [path.name for path in (tmp_path / "scan").iterdir()] == ["train_simple.txt"]
    server.files["/split/test_simple.txt"] = b"IN: run OUT: I_RUN\n"
    scan(tmp_path)
    assert (tmp_path / "scan" / "test_simple.txt").exists()


def test_a_missing_file_at_the_publisher_is_named_with_the_way_out(scan, server, tmp_path):
    del server.files["/split/train_simple.txt"]
    with pytest.raises(DataError, match=r"answer 404.*set TRUSTML_DATA to a folder.*scan/ with"):
        scan(tmp_path)


def test_loading_may_fetch_where_no_folder_is_named(scan, server, tmp_path, monkeypatch):
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "trustml"
    scan()
    asked = len(server.asked)
    assert len(data.load("scan", download=True).test) == 1
    assert len(server.asked) == asked


def test_sets_without_a_publisher_say_what_is_needed(tmp_path):
    with pytest.raises(DataError, match="shakespeare_roles cannot be downloaded, because") as said:
        data.fetch("shakespeare_roles", tmp_path)
    assert "ravexina/shakespeare-plays-dataset-scraper@38061c3924" in str(said.value)
    assert "shakespeare_roles/ with roles.jsonl" in str(said.value)
    assert not list(tmp_path.iterdir())


def test_the_command_fetches_checks_and_lists(scan, server, tmp_path, capsys):
    get = ["get", "scan", "--out", str(tmp_path), "--from", server.address]
    assert run(*get) == 0
    assert "every checksum is the published one" in capsys.readouterr().out
    check = ["check", "scan", "--data-dir", str(tmp_path)]
    assert run(*check) == 0
    assert "2 of 2 files" in capsys.readouterr().out
    (tmp_path / "scan" / "test_simple.txt").write_text("IN: a OUT: B\n")
    assert run(*check, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in told["files"]] == ["published", "differs"]
    (tmp_path / "scan" / "test_simple.txt").unlink()
    assert run(*check) == 1
    assert "missing" in capsys.readouterr().out


def test_the_command_lists_without_any_folder(capsys, monkeypatch):
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    assert run("list", "--json") == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(CATALOGUE)
    assert run("list", "--task", "qa") == 0
    assert "question < paragraph" in capsys.readouterr().out
    for name in CATALOGUE:
        assert run("show", name) == 0
        assert CATALOGUE[name].licence in capsys.readouterr().out
    with pytest.raises(DataError, match="got 'imdb'"):
        run("show", "imdb")
    with pytest.raises(ValueError, match="`--data-dir` must be a folder"):
        run("check")


# Converters: from the publisher's layout to ours


def _convert(folder, name, *parts):
    return converters.convert(folder, CATALOGUE[folder].file(name), list(parts)).decode()


def test_annotations_become_tokens_and_tags():
    listed = (
        b"answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user\n"
        b'7;alarm;set;"wake me at [time : five am] on [date : monday]";"";""\n'
    )
    assert _convert("hwu64", "test.tsv", listed, listed) == (
        "alarm_set\twake me at five am on monday\tO O O B-time I-time O B-date\t7\n" * 2
    )
    assert len(converters.publisher_paths("hwu64", CATALOGUE["hwu64"].file("test.tsv"))) == 64


def test_handles_are_replaced_and_addresses_of_mail_are_not():
    text = _convert("davidson_hate", "labeled_data.csv", b'0,"RT @some_one: hi @you, a@mail.com"\n')
    assert text == '0,"RT @USER: hi @USER, a@mail.com"\n'


def test_three_lists_become_triples():
    row = {"id": "1", "bias_type": "race", "target": "t", "context": "It was BLANK."}
    lists = {
        name: [row | {"sentence": f"It was {name}."}]
        for name in ("anti-stereotype", "stereotype", "unrelated")
    }
    found = json.loads(_convert("stereoset", "dev.jsonl", json.dumps(lists).encode()))
    assert found["kind"] == "intrasentence"
    assert found["anti_stereotype"] == "It was anti-stereotype."
    with pytest.raises(DataError, match=r"stereoset/dev\.jsonl: the publisher's file has another"):
        _convert("stereoset", "dev.jsonl", b'{"stereotype": []}')


def test_vectors_of_a_script_become_lines_of_text():
    script = b'var wordVecs={\n"in":[0.065400,-0.000070],\n"on":[0.000000,-0.000000]};\n'
    assert _convert("word_vectors", "gnews_top1000_300d.txt", script) == (
        "in 0.0654 -7e-05\non 0 -0\n"
    )


def test_columns_of_snips_become_rows_and_archives_are_opened():
    columns = (b"PlayMusic\n", b"play jazz \n", b"O B-genre\n")
    assert _convert("snips", "test.tsv", *columns) == "PlayMusic\tplay jazz\tO B-genre\n"
    with pytest.raises(DataError, match="1, 2, 2 lines"):
        _convert("snips", "test.tsv", b"PlayMusic\n", b"play\nstop\n", b"O\nO\n")
    assert _convert("adult", "adult.test", gzip.compress(b"rows")) == "rows"
    with pytest.raises(DataError, match=r"adult/adult\.test: the publisher's file has another"):
        _convert("adult", "adult.test", b"no gzip")


def test_every_file_that_can_be_fetched_has_an_address_and_a_checksum():
    for entry in CATALOGUE.values():
        for file in entry.files:
            assert len(file.sha256) == 64
            paths = converters.publisher_paths(entry.folder, file)
            assert paths or entry.refused or file.name == "adult.names"
            assert all("*" not in path and "{" not in path for path in paths)
