"""Arrays of a checkpoint on disk, in the format of orbax, which other programs read."""

import contextlib
import logging
from pathlib import Path
from typing import Any, Protocol

import jax


class Storage(Protocol):
    """Writes named arrays to a folder of their own and reads them back."""

    def save(self, folder: Path, arrays: dict[str, jax.Array], facts: dict[str, Any]) -> None:
        """Makes `folder`, which appears whole or not at all; `facts` are its metadata."""

    def kinds(self, folder: Path) -> dict[str, Any]:
        """Arrays of `folder` by name; each value has a `shape` and a `dtype`."""

    def restore(self, folder: Path, like: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The arrays of `folder`, in the types and on the devices of `like`."""


class OrbaxStorage:
    """The storage of every run; tests of the ledger's logic put a quicker one in its place."""

    def save(self, folder: Path, arrays: dict[str, jax.Array], facts: dict[str, Any]) -> None:
        """See `Storage`."""
        with _checkpointer() as checkpointer:
            checkpointer.save(folder.absolute(), arrays, custom_metadata=facts)
            checkpointer.wait_until_finished()

    def kinds(self, folder: Path) -> dict[str, Any]:
        """See `Storage`."""
        with _checkpointer() as checkpointer:
            return checkpointer.metadata(folder.absolute()).item_metadata.tree

    def restore(self, folder: Path, like: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """See `Storage`."""
        with _checkpointer() as checkpointer:
            return checkpointer.restore(folder.absolute(), jax.tree.map(_target, like))


def _target(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


@contextlib.contextmanager
def _checkpointer():
    import orbax.checkpoint

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # it reports every file, and every error we raise again
    try:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            yield checkpointer
    finally:
        logger.setLevel(level)
