"""Parts for training, validation and evaluation, by unit and without chance."""

import numpy as np
from jaxtyping import Float, Int

TRAIN, VALID, TEST = range(3)
_MONITORED = 0.05  # share of what is not evaluated: for the metrics log alone


def shares_of(evaluated: float, *, valid: bool) -> tuple[float, float]:
    """Shares of the units for test and validation.

    >>> shares_of(0.5, valid=True)
    (0.5, 0.025)

    Args:
      evaluated: Share to evaluate on; 0 where there are rows of their own for that.
      valid: Whether a part for validation is cut too.
    """
    return evaluated, _MONITORED * (1 - evaluated) if valid else 0.0


def choose_parts(
    draws: Float[np.ndarray, " unit"],
    shares: tuple[float, float],
    strata: Int[np.ndarray, " unit"] | None = None,
) -> Int[np.ndarray, " unit"]:
    """The part of each unit: TRAIN, VALID or TEST.

    >>> choose_parts(np.array([0.9, 0.05, 0.15]), (0.1, 0.1)).tolist()
    [0, 2, 1]

    Args:
      draws: A hash of each unit, uniform from 0 to 1. Units with one draw get one part.
      shares: Of test and validation.
      strata: The label of each unit, of which every part gets its share.

    Guarantee:
      Without `strata` a unit alone decides its part: to add or remove one moves no other. With
      them it may move one more unit for each part, which the guarantee of the training does not
      count; who needs that gives rows of their own for evaluation.
    """
    if strata is None:
        ends = np.cumsum(shares)
        return np.where(draws < ends[0], TEST, np.where(draws < ends[1], VALID, TRAIN))
    parts = np.full(len(draws), TRAIN)
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        parts[inside] = _cut(draws[inside], shares)
    return parts


def _cut(draws, shares):
    """Parts of one stratum by the ranks of its draws; of three units or more, one each at least."""
    order = np.sort(draws)
    least = int(len(draws) >= 3)
    counts = [max(least, round(share * len(draws))) if share else 0 for share in shares]
    test, valid = counts[0], sum(counts)
    ends = [
        order[end - 1] if end else -1.0 for end in (test, valid)
    ]  # draws that tie stay together
    return np.where(draws <= ends[0], TEST, np.where(draws <= ends[1], VALID, TRAIN))
