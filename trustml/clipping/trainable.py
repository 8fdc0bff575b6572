"""The trained leaves: by a mask, a predicate on paths, or every floating leaf."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def path_name(path) -> str:
    """Name of a leaf, as predicates and tables see it: `encoder/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def trainable_mask(params, trainable: Callable[[str], bool] | Any | None):
    """One boolean per leaf of `params`.

    Args:
      params: Pytree of arrays.
      trainable: None (every floating leaf), a predicate on names such as `encoder/0/kernel`, or a
        pytree prefix of booleans.

    Returns:
      A tree like `params` of booleans. Integer, boolean and key leaves are never trained.

    Raises:
      ValueError: No leaf is trained, or the mask does not fit.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    if trainable is None:
        wanted = [True] * len(paths)
    elif callable(trainable):
        wanted = [bool(trainable(path_name(path))) for path, _ in paths]
    else:
        flags, prefix = jax.tree.flatten(trainable)
        try:
            subtrees = prefix.flatten_up_to(params)
        except ValueError as error:
            raise ValueError(f"`trainable` must be a pytree prefix of `params`: {error}") from None
        wanted = [
            bool(flag)
            for flag, subtree in zip(flags, subtrees, strict=True)
            for _ in jax.tree.leaves(subtree)
        ]
    mask = [
        want and jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.floating)
        for want, (_, leaf) in zip(wanted, paths, strict=True)
    ]
    if not any(mask):
        raise ValueError(
            "`trainable` must select at least one floating leaf of `params`, got none."
        )
    return jax.tree.unflatten(structure, mask)


def partition(params, trainable=None):
    """Splits `params` into `(trained, frozen)`, each with None where the other has a leaf.

    >>> trained, frozen = partition({"w": jnp.ones(2), "steps": jnp.array(3)})
    >>> trained["steps"], frozen["w"]
    (None, None)
    """
    mask = trainable_mask(params, trainable)
    trained = jax.tree.map(lambda keep, leaf: leaf if keep else None, mask, params)
    frozen = jax.tree.map(lambda keep, leaf: None if keep else leaf, mask, params)
    return trained, frozen


def combine(trained, frozen):
    """Puts the two halves of `partition` together again.

    >>> halves = partition({"w": jnp.ones(2), "steps": jnp.array(3)})
    >>> int(combine(*halves)["steps"])
    3
    """
    return jax.tree.map(
        lambda one, other: other if one is None else one,
        trained,
        frozen,
        is_leaf=lambda node: node is None,
    )
