"""Checks of a training step before it runs."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from trustml.clipping.by_length import Cuts
from trustml.sampling import Draw

AUTO = "auto"


@contextlib.contextmanager
def loose_promotion():
    """For optimizers, which promote dtypes and ranks on their own, where the user is strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def check_optimizer(optimizer, params) -> None:
    """Refuses optimizers whose update needs more than gradients, such as the loss value.

    Raises:
      TypeError: It is no optax transformation.
      ValueError: It needs the value of the loss.
    """
    if not (callable(getattr(optimizer, "init", None)) and callable(optimizer.update)):
        raise TypeError(
            f"`optimizer` must be an optax gradient transformation, got {type(optimizer).__name__}."
        )

    def probe(params):
        return optimizer.update(params, optimizer.init(params), params)

    try:
        with loose_promotion():
            jax.eval_shape(probe, params)
    except Exception as error:
        needed = re.search(r"required keyword-only arguments?: (.*)", str(error))
        if needed is None:  # its own trouble with these parameters; a real update will show it
            return
        raise ValueError(
            f"`optimizer` must not need the value of the loss, but its update asks for "
            f"{needed.group(1)}: losses are private. Use one that reads gradients only."
        ) from None


def check_physical_batch_size(physical_batch_size) -> None:
    """Refuses a physical batch size that is no positive number of units.

    Raises:
      ValueError: It is neither None, nor "auto", nor a positive integer.
    """
    if physical_batch_size is None or physical_batch_size == AUTO:
        return
    if (
        isinstance(physical_batch_size, bool)
        or not isinstance(physical_batch_size, int)
        or physical_batch_size < 1
    ):
        raise ValueError(
            '`physical_batch_size` must be a positive integer or "auto", got '
            f"{physical_batch_size!r}."
        )


def check_no_batch_statistics(trained) -> None:
    """Refuses batch statistics among the trained leaves.

    Raises:
      ValueError: A path of `trained` names them, as flax does.
    """
    variables = jax.tree.leaves(trained, is_leaf=_is_batch_stat)
    paths = [
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(trained)[0]
    ]
    named = [path for path in paths if "batch_stats" in path]
    if named or any(_is_batch_stat(leaf) for leaf in variables):
        where = f" ({named[0]})" if named else ""
        raise ValueError(
            f"`params` must not hold batch statistics{where}: they mix units, which no bound of "
            "one unit covers. Use layer or group normalisation; or freeze them with `trainable` "
            "and run the model in inference mode."
        )


def _is_batch_stat(node):
    return type(node).__name__ == "BatchStat"


def check_draw(draw, fingerprint: str, step: int, steps: int) -> None:
    """Refuses a draw that the plan does not account for.

    Raises:
      TypeError: It is no `Draw`.
      ValueError: It belongs to another plan, to another step, or lies beyond the plan's end.
    """
    if not isinstance(draw, Draw):
        raise TypeError(f"`draw` must come from `plan.batches()`, got {type(draw).__name__}.")
    if draw.plan != fingerprint:
        raise ValueError(
            f"`draw` must come from `batches()` of the step's own plan ({fingerprint}), "
            f"got one of {draw.plan or 'no plan'}: its sampling is not what is accounted."
        )
    if step >= steps:
        raise ValueError(
            f"`draw` must be one of the plan's {steps} steps, got step {int(draw.step)}: further "
            "steps are not paid for. See `plan.remaining_steps`, and plan for more."
        )
    if int(draw.step) != step:
        raise ValueError(
            f"`draw` must be that of step {step}, which the state is at, got step "
            f"{int(draw.step)}. Resume with `plan.batches(start={step}, seed=...)`."
        )


def strong_copy(leaf) -> jax.Array:
    """A device copy without weak type: donated to the first step, and traced once."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf.copy()
    return jnp.array(leaf, dtype=jax.dtypes.result_type(leaf), copy=True)


def check_shorten(shorten: Callable | None, on_mesh: Any) -> Callable | None:
    """Refuses to shorten batches that devices share.

    Raises:
      ValueError: There is a mesh.
    """
    if shorten is not None and on_mesh is not None:
        raise ValueError(
            "`shorten` must be None on a mesh, whose program takes one shape. Leave it out."
        )
    return shorten


def cuts_of(shorten: Callable | None) -> Cuts | None:
    """`shorten` where it can cut micro-batches as well."""
    return shorten if isinstance(shorten, Cuts) else None


def check_mechanism(plan: Any, mesh: Any, physical_batch_size: Any, scale_by: Any = None) -> None:
    """Refuses what a plan's mechanism, or scales of gradients, cannot go with yet."""
    if mesh is not None and scale_by is not None:
        raise NotImplementedError(
            "`scale_by` must be None on a mesh, got a function. Train on one device."
        )
    alone = plan.noise in ("independent", "discrete_gaussian")
    simple = alone and not plan.num_microbatches and plan.clip_quantile is None
    if mesh is not None and not simple:
        raise NotImplementedError(
            "`mesh` needs a plan of independent or discrete Gaussian noise, fixed bounds and no "
            f"micro-batches, got `noise`={plan.noise!r}, "
            f"`clip_quantile`={plan.clip_quantile!r} and "
            f"`num_microbatches`={plan.num_microbatches}. Train on one device."
        )
    if plan.num_microbatches and physical_batch_size is not None:
        raise ValueError(
            f"`physical_batch_size` must be None where the plan bounds the means of "
            f"{plan.num_microbatches} micro-batches, got {physical_batch_size!r}."
        )
