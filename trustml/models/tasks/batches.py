"""Computes all rows of a part in batches of similar lengths."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from trustml.data.buckets import bucket_lengths, cut_masked, length_batches, masked_lengths

_LENGTHS = 4  # programs that are compiled: a large network takes half a minute for each


def by_length(function: Callable, params: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`function(params, arrays)` for all rows, each of which costs about what it holds.

    >>> masks = {"mask": np.arange(16) < np.array([[2], [9]])}
    >>> by_length(lambda params, rows: params * rows["mask"].sum(1), 10, masks).tolist()
    [20, 90]

    Args:
      function: Maps weights and rows to arrays [row, ...] or [row, time, ...]; what it gives for
        a row must not depend on padding behind it.
      params: The weights.
      arrays: Rows as a task encodes them, with their masks.

    Returns:
      The arrays of all rows, in their order; zeros stand where rows were not computed.
    """
    lengths = masked_lengths(arrays)
    longest = max(arrays[name].shape[-1] for name in ("mask", "target_mask") if name in arrays)
    like = {name: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype) for name, a in arrays.items()}
    shapes = jax.eval_shape(function, params, like)
    whole = jax.tree.map(lambda one: np.zeros((len(lengths), *one.shape[1:]), one.dtype), shapes)
    for batch in length_batches(lengths, longest, bucket_lengths(longest, _LENGTHS)):
        # The last row fills the batch up: one size a length, so one program a length.
        rows = batch.rows[np.minimum(np.arange(batch.size), len(batch.rows) - 1)]
        taken = {name: leaf[rows] for name, leaf in arrays.items()}
        found = function(params, cut_masked(taken, batch.length))
        jax.tree.map(functools.partial(_put, batch.rows), whole, found)
    return whole


def _put(rows: np.ndarray, whole: np.ndarray, found: Any) -> None:
    places: Any = (rows, *map(slice, found.shape[1:]))
    whole[places] = np.asarray(found)[: len(rows)]
