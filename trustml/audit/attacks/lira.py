"""LiRA: is what the model says of a unit more like models with it, or without it?"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from trustml.audit.attacks.checks import (
    check_choice,
    check_enough,
    check_models,
    check_reference,
)


class _Law(NamedTuple):
    """A normal law for every unit and query."""

    centre: Float[np.ndarray, "unit query"]
    std: Float[np.ndarray, "unit query"]


def lira(
    target: ArrayLike,
    shadows: ArrayLike,
    membership: ArrayLike,
    *,
    variant: Literal["online", "offline"] = "online",
    variance: Literal["per_example", "global"] = "per_example",
    centre: Literal["median", "mean"] = "median",
) -> Float[np.ndarray, " unit"]:
    """The likelihood-ratio attack: normal laws of a signal with and without each unit.

    Online, the score is log N(s; with the unit) - log N(s; without). Offline, it is (s - centre) /
    std of the law without: it ranks as the paper's 1 - Pr[Z > s] does, which rounds to 1 for all
    that lies beyond eight deviations. Several queries of a unit count by the mean of their scores.

    The centre is the median, as in the authors' code; the paper's algorithm has the mean. Standard
    deviations are about the mean and divide by the count less one. With a global variance, one for
    those with and one for those without, deviations are taken within units. (The authors' code
    takes the spread between units in, and in places one law's deviation for the other's, or the
    density for the tail.)

    >>> shadows = [[3.0], [5.0], [-1.0], [1.0]]
    >>> lira([4.0], shadows, [[True], [True], [False], [False]]).round(6).tolist()
    [4.0]

    Args:
      target: A signal of the model under attack, near a normal law over trainings and higher where
        surer, as `logit_confidence` is: [unit] or [unit, query].
      shadows: The same of models that were trained by the same recipe: [model, unit] or with
        queries.
      membership: Who trained which shadow, truth values [model, unit].
      variant: "online" needs shadows with and without each unit; "offline" only without.
      variance: "per_example", or "global" for few shadows; the paper advises it below 64.
      centre: Of the laws.

    Returns:
      Float64 [unit], higher is more like a member. Private.

    Raises:
      ValueError: Too few shadows (online four in all and two with and two without each unit, or two
        and one and one under a global variance; offline the half), shapes that do not go together,
        a signal that is not finite, or shadows that all say the same.

    References:
      Carlini et al., Membership Inference Attacks From First Principles, 2022.
    """
    check_choice("variant", variant, ("online", "offline"))
    check_choice("variance", variance, ("per_example", "global"))
    check_choice("centre", centre, ("median", "mean"))
    found = check_reference(target, shadows, membership, axes=(1, 2))
    sides, least = (2 if variant == "online" else 1), (2 if variance == "per_example" else 1)
    check_models(len(found.shadows), sides * least, f"{variant} LiRA with {variance} variance")
    queries = found.shadows.reshape(*found.shadows.shape[:2], -1)
    asked = found.target.reshape(len(found.target), -1)

    def law(taken, what):
        check_enough(taken, least, what)
        return _law(queries, taken, variance, centre)

    without = law(~found.membership, "trained without")
    if variant == "offline":
        return ((asked - without.centre) / without.std).mean(-1)
    with_it = law(found.membership, "trained with")
    return (_log_density(asked, with_it) - _log_density(asked, without)).mean(-1)


def _law(values, taken, variance, centre) -> _Law:
    counts, taken = taken.sum(0)[:, None], taken[:, :, None]
    mean = np.mean(values, axis=0, where=taken)
    squares = np.sum((values - mean) ** 2, axis=0, where=taken)
    if variance == "global":
        squares, freedom = squares.sum(0, keepdims=True), (counts - 1).sum(0, keepdims=True)
    else:
        freedom = counts - 1
    if not ((freedom > 0).all() and (squares > 0).all()):
        raise ValueError(
            "`shadows` must differ in what they say of a unit, or a variance cannot be told, got "
            f"{int((squares <= 0).sum())} of {squares.size} without any difference. Train more of "
            "them; `variance='global'` needs one unit alone with two."
        )
    std = np.broadcast_to(np.sqrt(squares / freedom), mean.shape)
    return _Law(mean if centre == "mean" else _median(values, taken), std)


def _median(
    values: Float[np.ndarray, "model unit query"], taken: Bool[np.ndarray, "model unit 1"]
) -> Float[np.ndarray, "unit query"]:
    """Of each unit and query, over the models that count for the unit."""
    rising = np.sort(np.where(taken, values, np.inf), axis=0)  # what does not count comes last
    counts = taken.sum(0, keepdims=True)
    shape = (1, *values.shape[1:])
    low, high = (
        np.take_along_axis(rising, np.broadcast_to(place, shape), axis=0)[0]
        for place in ((counts - 1) // 2, counts // 2)
    )
    return (low + high) / 2


def _log_density(values, law: _Law):
    """Up to a constant that cancels in a ratio."""
    return -0.5 * ((values - law.centre) / law.std) ** 2 - np.log(law.std)
