"""Merges low-rank adapters into the weights that they adapt."""

from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from trustml.models.transformers.layers import Lora


def merge_lora(params: dict[str, Any], lora: Lora) -> dict[str, Any]:
    """Parameters of the same network without adapters: W + A B alpha / rank.

    >>> import numpy as np
    >>> layer = {"kernel": np.ones((2, 2)), "lora_a": np.ones((2, 1)), "lora_b": np.ones((1, 2))}
    >>> merge_lora({"up": layer}, Lora(rank=1, alpha=3.0))["up"]["kernel"].tolist()
    [[4.0, 4.0], [4.0, 4.0]]

    Raises:
      ValueError: The adapters' rank is not that of `lora`.
    """
    leaves = flatten_dict(params, sep="/")
    merged = {}
    for name, leaf in leaves.items():
        module, _, part = name.rpartition("/")
        if part in ("lora_a", "lora_b"):
            continue
        if part == "kernel" and f"{module}/lora_a" in leaves:
            a, b = leaves[f"{module}/lora_a"], leaves[f"{module}/lora_b"]
            if a.shape[-1] != lora.rank:
                raise ValueError(
                    f"`lora` must have the rank of `{module}/lora_a`, {a.shape[-1]}, "
                    f"got {lora.rank}."
                )
            # `matmul`, not `@`, for the precision: TF32 would change the merged weights. Leading
            # axes are stacked layers.
            added = jnp.matmul(a, b, precision="highest")
            leaf = leaf + added * jnp.asarray(lora.alpha / lora.rank, added.dtype)
        merged[name] = leaf
    return unflatten_dict(merged, sep="/")
