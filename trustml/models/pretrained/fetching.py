"""A model of the registry from its address into a cache: verified, or refused."""

import functools
import urllib.parse
from pathlib import Path

from trustml.data.transfer import Download, download, retrieve
from trustml.models.pretrained.registry import (
    PUBLISHED,
    fetched_folder,
    file_verdict,
    find_entry,
    install_advice,
)


def fetch_model(
    name: str,
    out: str | Path | None = None,
    *,
    address: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """The folder of a model's files, downloaded where they are not there with their checksum.

    >>> fetch_model("none-of-this-name")
    Traceback (most recent call last):
    ValueError: `name` must be one of minilm, smollm2, got 'none-of-this-name'.

    A file appears under its name only with its published checksum. A download that broke off is
    continued by the next call. Tests run against a server on one machine; the addresses of the
    registry were not reached when this was written.

    Args:
      name: A name of the registry.
      out: Folder to put the files in; by default one of `cache_folder()`, where `find_model` looks.
      address: Where to fetch from instead of the registry's address.
      progress: Whether to show a bar on standard error.
      timeout: Seconds without an answer or a byte that count as broken.
      attempts: How often to try a file.
      pause: Seconds before the second try; each further pause is twice as long.

    Returns:
      The folder with the files.

    Raises:
      ValueError: The model has no address, the server cannot be reached, or it sent something else.
    """
    entry = find_entry(name)
    root = address or entry.address
    if root is None:
        raise ValueError(f"`{name}` has no address to fetch it from. {install_advice(entry)}")
    if not root.startswith(("http://", "https://")):
        raise ValueError(f"`address` must be an http or https address, got {root!r}.")
    folder = Path(out) if out is not None else fetched_folder(entry)
    download(
        (
            Download(
                folder / file.path,
                f"{name}/{file.path}",
                file.sha256,
                [f"{root.rstrip('/')}/{urllib.parse.quote(file.path)}"],
                source=root,
                size=file.size,
            )
            for file in entry.files
            if file_verdict(folder / file.path, file) != PUBLISHED
        ),
        folder / ".partial",
        get=functools.partial(retrieve, timeout=timeout, attempts=attempts, pause=pause),
        way_out=install_advice(entry),
        progress=progress,
    )
    return folder
