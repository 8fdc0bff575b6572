"""Checks of a loss: of one unit, a floating scalar, without statistics over a batch."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_BATCH_NORM = "BatchNorm.__call__"  # of flax.linen, flax.nnx, and whoever names theirs so
_NO_NUMBERS = {"O": "objects", "S": "bytes", "U": "strings", "M": "dates", "m": "durations"}


def takes_key(loss_fn) -> bool:
    """Whether the loss asks for a third argument, a key of each unit's own."""
    try:
        parameters = inspect.signature(loss_fn).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) >= 3


def check_arrays(units: Any) -> None:
    """Refuses data that are no numbers, and names where they stand.

    Raises:
      TypeError: A leaf holds strings or objects.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(units):
        kind = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        # Dtypes of JAX keys have no kind, and are data like numbers.
        if getattr(kind, "kind", None) in _NO_NUMBERS:
            raise TypeError(
                f"`units` must hold numbers, got {_NO_NUMBERS[kind.kind]} at {_place(path)}. "
                "Encode them as integers (np.unique(column, return_inverse=True)), or leave the "
                "column out."
            )


def lengths(units: Any) -> dict[str, str]:
    """The length of each column, by name, for a message; a scalar has none."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(units):
        shape = np.shape(leaf) if not hasattr(leaf, "shape") else leaf.shape
        found[_place(path)] = str(shape[0]) if shape else "a scalar"
    return found


def check_loss(loss_fn: Callable, params: Any, units: Any, keys: Any = None, *, has_aux=False):
    """Refuses a loss that is not of one unit.

    Args:
      loss_fn: As in `clipped_grad`.
      params: As in a call.
      units: As in a call.
      keys: A key for each unit, or None.
      has_aux: As in `clipped_grad`.

    Raises:
      TypeError: It is no floating scalar, wants a batch, or wants a key that is not there.
      ValueError: It normalises over a batch.
    """
    rest = () if keys is None else (keys,)
    if keys is None and takes_key(loss_fn):
        raise TypeError(
            "`key` must be given, got none: `loss_fn` takes a third argument, a key of each unit's "
            "own. Pass `key=jax.random.key(seed)`."
        )
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), units)
    own = tuple(jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for array in rest)
    try:
        closed, found = jax.make_jaxpr(loss_fn, return_shape=True)(params, one, *own)
    except Exception as error:
        if _runs_on_a_batch(loss_fn, params, one, own):
            raise TypeError(_wants_batch(error)) from error
        raise
    _check_scalar(found, has_aux)
    _check_no_batch_norm(getattr(closed, "jaxpr", closed))


def _runs_on_a_batch(loss_fn, params, one, own) -> bool:
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), one)
    try:
        jax.eval_shape(loss_fn, params, batch, *own)
    except Exception:  # the loss is the user's: whatever it raises, it does not run
        return False
    return True


def _wants_batch(error) -> str:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return (
        "`loss_fn` must take one unit, without a batch axis, got a loss that runs on a batch only: "
        f"{said[0].rstrip('.')}. Write it for one unit, or pass "
        "`lambda params, unit: loss_fn(params, jax.tree.map(lambda leaf: leaf[None], unit))`."
    )


def _check_scalar(found, has_aux: bool) -> None:
    if has_aux:
        if not (isinstance(found, tuple) and len(found) == 2):
            raise TypeError(
                "`loss_fn` must return (loss, aux) when `has_aux` is true, "
                f"got {type(found).__name__}."
            )
        found = found[0]
    elif isinstance(found, tuple):
        raise TypeError(
            "`loss_fn` must return one scalar, got a tuple; pass `has_aux=True` for (loss, aux)."
        )
    shape = getattr(found, "shape", None)
    if shape != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(
            "`loss_fn` must return a floating scalar for one unit, got "
            f"{getattr(found, 'dtype', type(found).__name__)} of shape {shape}; "
            "sum or average over the unit's own axes."
        )


def _check_no_batch_norm(jaxpr) -> None:
    """Of a batch of one, batch normalisation makes nothing: every feature less its own mean."""
    for eqn in jaxpr.eqns:
        inner = [found for value in eqn.params.values() for found in _jaxprs(value)]
        if _reduces(eqn) or any(_reduces(each) for one in inner for each in one.eqns):
            frames = getattr(eqn.source_info.traceback, "frames", ())
            if any(frame.function_name.endswith(_BATCH_NORM) for frame in frames):
                raise ValueError(
                    "`loss_fn` must not normalise over a batch, got BatchNorm in training mode: it "
                    "sees one unit, of which nothing is left but zeros. Use GroupNorm or "
                    "LayerNorm, or freeze its statistics (`use_running_average=True`)."
                )
        for one in inner:
            _check_no_batch_norm(one)


def _reduces(eqn) -> bool:
    return eqn.primitive.name.startswith("reduce")


def _jaxprs(value):
    for one in value if isinstance(value, tuple | list) else (value,):
        one = getattr(one, "jaxpr", one)
        if hasattr(one, "eqns"):
            yield one


def _place(path) -> str:
    return jax.tree_util.keystr(path) or "the only leaf"
