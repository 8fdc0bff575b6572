"""Weights in safetensors files, which other programs read."""

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from trustml.training.runs.environment import flat_names


def save_weights(path: Path, params: PyTree, facts: dict[str, str] | None = None) -> str:
    """Writes every leaf under its name, such as `encoder.kernel`; whole or not at all.

    Returns the SHA-256 of the file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     len(save_weights(Path(name, "weights.safetensors"), {"w": jnp.zeros(3)}))
    64

    Args:
      path: The file.
      params: Pytree of arrays.
      facts: Text for the file's metadata.
    """
    from safetensors.flax import save

    named = {name.replace("/", "."): jnp.asarray(leaf) for name, leaf in flat_names(params).items()}
    if len(named) != len(jax.tree.leaves(params)):
        raise ValueError("`params` must have distinct paths, got two that read alike with dots.")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            data = save(named, metadata=facts or {})
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def load_weights(path: Path, like: PyTree) -> Any:
    """Reads weights into the shape of `like`.

    >>> import tempfile
    >>> tree = {"layer": {"kernel": jnp.ones((2, 3))}}
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = Path(name, "weights.safetensors")
    ...     _ = save_weights(path, tree)
    ...     load_weights(path, tree)["layer"]["kernel"].shape
    (2, 3)

    Raises:
      ValueError: The file is not whole, or a tensor is missing, left over or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.flax import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}.") from None
    wanted = {name.replace("/", "."): leaf for name, leaf in flat_names(like).items()}
    for name, leaf in wanted.items():
        if name not in found:
            raise ValueError(f"{path} must hold the tensor `{name}`, which is missing.")
        if (found[name].shape, found[name].dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"{path} must hold `{name}` as {leaf.dtype}{list(leaf.shape)}, got "
                f"{found[name].dtype}{list(found[name].shape)}."
            )
    if extra := sorted(set(found) - set(wanted)):
        raise ValueError(f"{path} must hold no other tensors, got `{extra[0]}`.")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])
