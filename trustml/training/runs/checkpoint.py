"""Checkpoints of a training state, without its key; a hash says that they are whole.

A checkpoint holds weights and optimizer state, both computed from noisy sums alone: the promise of
a private run covers them.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from trustml.formatting import one_line
from trustml.training.runs.environment import flat_names
from trustml.training.runs.files import sync_folder
from trustml.training.runs.storage import OrbaxStorage, Storage

storage: Storage = OrbaxStorage()
_OVERHEAD = 1 << 16  # bytes on top of the arrays themselves


class CheckpointError(ValueError):
    """No checkpoint that can be relied on: the message names the folder and the way out."""


def save_checkpoint(folder: Path, step: int, tree: Any, facts: dict[str, Any]) -> str:
    """Writes `tree` to `folder/00000042`; returns the hash of what it holds.

    The folder of a checkpoint appears whole or not at all. Leaves go under their names, so any
    program that reads orbax can load them; `facts` stand in its metadata.

    Raises:
      OSError: It cannot be written; no part of it is left.
    """
    place = _place(folder, step)
    flat = _arrays(tree)
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(leaf.nbytes for leaf in flat.values())
    if shutil.disk_usage(folder).free < needed + _OVERHEAD:  # storage would say so at great length
        raise _unwritable(place, os.strerror(errno.ENOSPC))
    if place.exists():  # by a process that died before its ledger named it
        shutil.rmtree(place)
    try:
        storage.save(place, flat, facts)
    except BaseException as error:
        for path in (place, *folder.glob(f"{place.name}.*")):
            shutil.rmtree(path, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        full = "No space left" in str(error)
        why = os.strerror(errno.ENOSPC) if full else one_line(error)[:200]
        raise _unwritable(place, why) from None
    for path in (folder, place, *place.rglob("*")):  # the older one is removed soon after
        sync_folder(path)
    return _hash(place)


def restore_checkpoint(folder: Path, entries: Sequence[dict[str, Any]], like: Any):
    """The newest checkpoint that is whole.

    Args:
      folder: Where `save_checkpoint` put them.
      entries: The ledger's entries of checkpoints, oldest first.
      like: A tree of arrays of the shapes and types to restore; what is restored lies on their
        devices, whichever those were that it was saved from.

    Returns:
      `(entry, tree, damaged)`: the entry of the checkpoint, what it holds, and the names of newer
      ones that are not whole.

    Raises:
      CheckpointError: None is whole.
    """
    damaged: list[str] = []
    for entry in reversed(entries):
        place = _place(folder, entry["step"])
        if _hash(place) == entry["files"]:
            return entry, _restore(place, like), damaged
        damaged.append(place.name)
    raise CheckpointError(
        f"`out` must hold a whole checkpoint, got {folder}, where {', '.join(damaged)} "
        f"{'are' if len(damaged) > 1 else 'is'} damaged or missing. Restore "
        "the folder from a backup, or start a new run elsewhere: what this one spent stays spent."
    )


def keep_only(folder: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Removes every checkpoint that `entries` do not name."""
    kept = {_place(folder, entry["step"]).name for entry in entries}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _restore(place: Path, like):
    flat = _arrays(like)
    # Asked first: where shapes differ, orbax would leave half-read arrays behind.
    _check_same(flat, storage.kinds(place), place)
    found = storage.restore(place, flat)
    leaves = [
        jax.random.wrap_key_data(found[name], impl=jax.random.key_impl(leaf))
        if _is_key(leaf)
        else found[name]
        for name, leaf in flat_names(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _check_same(wanted, held, place: Path) -> None:
    for name in sorted({*wanted, *held}):
        new, old = (_kind(leaves.get(name)) for leaves in (wanted, held))
        if new != old:
            raise CheckpointError(
                "`params` and the state of `optimizer` must be those of the run, got "
                f"{new} for `{name}`, where {place} holds {old}."
            )


def _kind(leaf) -> str:
    return "none" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


def _unwritable(place: Path, why: str) -> OSError:
    return OSError(f"the checkpoint {place} could not be written: {why}.")


def _hash(place: Path) -> str:
    """SHA-256 of names and bytes of all files: storage libraries report damage at length, late."""
    total = hashlib.sha256()
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(place)} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while part := file.read(1 << 24):
                total.update(part)
    return total.hexdigest()


def _arrays(tree) -> dict[str, jax.Array]:
    """Leaves by name, keys as the numbers they are made of."""
    flat = flat_names(tree)
    if len(flat) != len(jax.tree.leaves(tree)):
        raise ValueError("`params` must have distinct paths, got two that read alike with slashes.")
    return {
        name: jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)
        for name, leaf in flat.items()
    }


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _place(folder: Path, step: int) -> Path:
    return folder / f"{step:08d}"
