"""One address to bytes, and bytes to a file that has its checksum.

A download is streamed to a partial file, resumed after a break, and tried again. A partial file is
continued only with what the server says are its later bytes. A whole is refused that is not what
was published; `download` does both for the files of a set or a model.
"""

import hashlib
import http.client
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from trustml.data.errors import DataError
from trustml.formatting import one_line

_CHUNK = 1 << 16
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # the answers that may be others in a while


class _Broken(Exception):
    """An answer that broke off or did not come: worth another try."""


def cache_folder() -> Path:
    """The folder of what was downloaded: `trustml` in $XDG_CACHE_HOME, or in ~/.cache.

    >>> cache_folder().name
    'trustml'
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trustml"


class Download(NamedTuple):
    """A published file, and where it goes.

    Attributes:
      target: Where it goes.
      title: What the bar calls it.
      sha256: The published checksum of its content.
      addresses: Where it is, in parts.
      source: Who published it, for messages.
      size: Its bytes, if known before.
      join: Maps the parts to its content; by default there is one.
    """

    target: Path
    title: str
    sha256: str
    addresses: Sequence[str]
    source: str
    size: int | None = None
    join: Callable[[list[bytes]], bytes] = b"".join


def download(
    files: Iterable[Download],
    partials: Path,
    *,
    get: Callable[..., bytes],
    way_out: str,
    progress: bool = True,
) -> None:
    """Puts files where they go, each whole and with its checksum.

    Args:
      files: The files.
      partials: Folder for parts, by which the next call goes on; it is removed at the end.
      get: `retrieve`, with how patient it is.
      way_out: What to do instead, for messages.
      progress: Whether to show a bar on standard error.

    Raises:
      DataError: A publisher cannot be reached, or sent something else.
    """
    with _download_bar(progress) as bar:
        for file in files:
            partials.mkdir(parents=True, exist_ok=True)
            try:
                content = file.join(_parts(file, partials, bar, get))
                _store(file, content, partials)
            except DataError as error:
                raise DataError(f"{error} {way_out}") from None
    shutil.rmtree(partials, ignore_errors=True)


def _parts(file: Download, partials: Path, bar: Progress, get: Callable) -> list[bytes]:
    task, before = bar.add_task(file.title, total=file.size), 0
    parts = []
    for address in file.addresses:
        # Under its checksum's and its address's name, so that it fits no other file.
        partial = partials / hashlib.sha256(f"{file.sha256} {address}".encode()).hexdigest()[:32]

        def report(done: int, total: int | None, before: int = before) -> None:
            whole = total if len(file.addresses) == 1 else None
            bar.update(task, completed=before + done, total=whole)

        parts.append(get(address, partial, report=report))
        before += len(parts[-1])
    bar.update(task, completed=before, total=before)
    return parts


def retrieve(
    address: str,
    partial: Path,
    *,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> bytes:
    """Downloads `address` by way of the file `partial`, which stays behind for the caller.

    Args:
      address: An http or https address.
      partial: Where the bytes go as they come; what it holds already is not fetched again if the
        server can continue.
      timeout: Seconds without an answer or a byte that count as broken.
      attempts: How often to try before giving up; answers like 404 are final at once.
      pause: Seconds before the second try; each further pause is twice as long.
      report: Called with the bytes so far and their total, None where the server does not say.

    Raises:
      DataError: No server, a final answer, or no whole answer in any attempt.
    """
    if not address.startswith(("http://", "https://")):
        raise DataError(f"`publisher` must be an http or https address, got {address!r}.")
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _continue(address, partial, timeout, report)
            return partial.read_bytes()
        except _Broken as error:
            problem = str(error)
    raise DataError(f"{address} cannot be downloaded: {problem}, {attempts} times.")


def _continue(address, partial, timeout, report) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "trustml", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing behind what we hold: it is whole, or not the same file
            partial.unlink()
            raise _Broken("the partial file does not fit") from None
        if error.code in _AGAIN:
            raise _Broken(f"answer {error.code} {error.reason}") from None
        raise DataError(
            f"{address} cannot be downloaded: answer {error.code} {error.reason}."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, socket.gaierror | ConnectionRefusedError):
            raise DataError(f"{address} cannot be downloaded: {reason}.") from None
        raise _Broken(_explain(reason, timeout)) from None
    with answer:
        _receive(answer, partial, start, timeout, report)


def _receive(answer, partial, start, timeout, report) -> None:
    if answer.status != 206 or not _begins_at(answer, start):
        start = 0  # the server sends all of it anew
    length = answer.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    done = start
    try:
        with partial.open("ab" if start else "wb") as file:
            while piece := answer.read(_CHUNK):
                file.write(piece)
                done += len(piece)
                report(done, total)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_explain(error, timeout)) from None
    if total is not None and done != total:
        raise _Broken(f"cut off after {done} of {total} bytes")


def _begins_at(answer, start) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _explain(error, timeout) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {timeout:g} s"
    return one_line(error)


def _store(file: Download, content: bytes, partials: Path) -> None:
    """Writes a file whole, or not at all."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != file.sha256:
        shutil.rmtree(partials)  # or the next call would find the same bytes again
        raise DataError(
            f"{file.target.name}: the download has SHA-256 {actual}, must be {file.sha256}: it is "
            f"not the published file of {file.source}."
        )
    file.target.parent.mkdir(parents=True, exist_ok=True)
    whole = partials / f"whole{os.getpid()}"
    whole.write_bytes(content)
    whole.replace(file.target)


def _download_bar(shown: bool) -> Progress:
    """A bar on standard error that counts bytes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
