"""The secrets of a run, noise key and sampler's secret: apart from all else, and deleted."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trustml.noise import key_from_seed, new_key
from trustml.sampling import new_secret, secret_from_seed
from trustml.training.runs.files import sync_folder, write_json
from trustml.training.runs.folder import RunFolder

_DOMAIN = b"trustml fingerprint of a run's secrets, version 1\x00"


class Secrets(NamedTuple):
    """The keys of noise and draws. Whoever has them can subtract the noise: no epsilon holds."""

    noise: bytes  # the 256-bit key of `trustml.noise`
    sampler: bytes  # the 32 bytes of `Sampler`

    @property
    def key(self) -> np.ndarray:
        """The noise key as uint32[8]."""
        return np.frombuffer(self.noise, "<u4").astype(np.uint32)

    @property
    def fingerprint(self) -> str:
        """Names these secrets without giving them away: a hash of 512 bits that nobody can try."""
        return hashlib.sha256(_DOMAIN + self.noise + self.sampler).hexdigest()[:32]


def new_secrets(seed: int | None, number: int) -> Secrets:
    """Secrets for a run's segment `number`: fresh ones, or those that a seed stands for.

    Only a run's first are repeatable: copies of it that go on apart must not share the next.
    """
    if seed is None or number > 0:
        return Secrets(_bytes(new_key()), new_secret())
    return Secrets(_bytes(key_from_seed(seed)), secret_from_seed(seed))


def save_secrets(folder: RunFolder, secrets: Secrets) -> None:
    """Writes the file `keys`, readable by its owner alone."""
    folder.secret.mkdir(mode=0o700, exist_ok=True)
    _overwrite(folder.keys)  # those of the segment before, which must not lie in a free block
    text = {"secret": "delete this and the promise stands; publish it and it is void"}
    fields = {"noise": secrets.noise.hex(), "sampler": secrets.sampler.hex()}
    write_json(folder.keys, {**text, **fields}, mode=0o600)
    sync_folder(folder.path)


def load_secrets(folder: RunFolder) -> Secrets | None:
    """The secrets of a run, or None where they are gone or unreadable."""
    try:
        found = json.loads(folder.keys.read_text())
        return Secrets(bytes.fromhex(found["noise"]), bytes.fromhex(found["sampler"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def delete_secrets(folder: RunFolder) -> None:
    """Overwrites and removes the folder `secret`.

    Guarantee:
      No file of the run holds them any more. What a journal, a snapshot or a flash disk keeps of
      overwritten blocks is beyond a program's reach; an encrypted disk covers that.
    """
    if not folder.secret.exists():
        return
    real = folder.secret.resolve()  # it may be a link to a disk that is encrypted or is memory
    for path in real.rglob("*"):
        _overwrite(path)
    shutil.rmtree(real)
    if folder.secret.is_symlink():
        folder.secret.unlink()
    sync_folder(folder.path)


def _overwrite(path: Path) -> None:
    if path.is_file() and not path.is_symlink():
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())


def _bytes(key) -> bytes:
    return np.asarray(key, "<u4").tobytes()
