"""One address to bytes, and bytes to a file that has its checksum.

A download is streamed to a partial file, resumed after a break, and tried again. A partial file is
continued only with what the server says are its later bytes. `store` refuses a whole that is not
what was published.
"""

import hashlib
import http.client
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from trustml.data.errors import DataError

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
        _store(answer, partial, start, timeout, report)


def _store(answer, partial, start, timeout, report) -> None:
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
    return " ".join(str(error).split()) or type(error).__name__


def store(target: Path, content: bytes, sha256: str, partials: Path, *, source: str) -> None:
    """Writes a file whole, or not at all.

    Args:
      target: The file.
      content: What was downloaded.
      sha256: The published checksum of `content`.
      partials: Folder of partial files; it is removed where the checksum differs.
      source: Who published the file, for the message.

    Raises:
      DataError: The content has another checksum.
    """
    actual = checksum(content)
    if actual != sha256:
        shutil.rmtree(partials)  # or the next call would find the same bytes again
        raise DataError(
            f"{target.name}: the download has SHA-256 {actual}, must be {sha256}: it is not "
            f"the published file of {source}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = partials / f"whole{os.getpid()}"
    whole.write_bytes(content)
    whole.replace(target)


def download_bar(shown: bool) -> Progress:
    """A bar on standard error that counts bytes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


def checksum(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
