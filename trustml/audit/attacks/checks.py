"""Checks of attacks with shadow models."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike


class Reference(NamedTuple):
    """Signals of the model under attack and of its shadows, checked."""

    target: Float[np.ndarray, "unit ..."]
    shadows: Float[np.ndarray, "model unit ..."]
    membership: Bool[np.ndarray, "model unit"]  # who trained which shadow


def check_reference(
    target: ArrayLike, shadows: ArrayLike, membership: ArrayLike, axes: tuple[int, ...] = (1,)
) -> Reference:
    """The three arrays in float64 and bool; refuses those that do not go together.

    Args:
      target: Signals of the model under attack, [unit] or with more axes.
      shadows: The same of each shadow model, with a leading model axis.
      membership: Truth values, [model, unit].
      axes: How many `target` may have.

    Raises:
      ValueError: Shapes that do not go together, or a number that is not finite.
    """
    target, shadows = np.asarray(target, np.float64), np.asarray(shadows, np.float64)
    membership = np.asarray(membership)
    if target.ndim not in axes or not target.size:
        many = " or ".join(map(str, axes))
        raise ValueError(f"`target` must have {many} axes, unit first, got shape {target.shape}.")
    if shadows.shape[1:] != target.shape or not len(shadows):
        raise ValueError(
            f"`shadows` must hold for each model what `target` holds, {target.shape}, got "
            f"{shadows.shape}: shadows are of the target's shape and score the same units."
        )
    if membership.dtype != bool or membership.shape != shadows.shape[:2]:
        raise ValueError(
            f"`membership` must hold a truth value for each shadow and unit, {shadows.shape[:2]}, "
            f"got {membership.dtype} of shape {membership.shape}."
        )
    _check_finite("target", target)
    _check_finite("shadows", shadows)
    return Reference(target, shadows, membership)


def _check_finite(name: str, values: Float[np.ndarray, "..."]) -> None:
    """Refuses NaN and infinity, and says where."""
    if not np.isfinite(values).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
        raise ValueError(
            f"`{name}` must be finite, got {values[place]} at {place}. Leave the unit out, or the "
            "model if its training diverged."
        )


def check_enough(taken: Bool[np.ndarray, "model unit"], least: int, what: str) -> None:
    """Refuses units that too few of the shadows stand for.

    Args:
      taken: Which shadows count for which unit.
      least: Of them, for every unit.
      what: Which they are, as the message says it: "trained with" the unit.
    """
    counts = taken.sum(0)
    if (counts < least).any():
        place = int(np.argmin(counts))
        raise ValueError(
            f"`shadows` must hold at least {least} models {what} each unit, got "
            f"{counts[place]} for unit {place} (too few for {int((counts < least).sum())} of "
            f"{len(counts)} units). Train more, or leave those units out."
        )


def check_models(number: int, least: int, attack: str) -> None:
    """Refuses fewer shadows than the attack needs whatever they were trained with."""
    if number < least:
        raise ValueError(f"`shadows` must be at least {least} models for {attack}, got {number}.")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a word that is none of `allowed`."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}.")
