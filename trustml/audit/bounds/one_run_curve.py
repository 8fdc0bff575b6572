"""The one-run audit of a whole trade-off curve, where the promise is more than one epsilon."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from trustml.audit.bounds.gaussian import gaussian_epsilon
from trustml.audit.bounds.result import check_delta, check_guesses
from trustml.stats.intervals import check_confidence

_LARGEST_MU = 64.0  # an epsilon above 2000
_PARTS = 64
_PASSES = 5  # 64 / 64^5 = 6e-8 in mu


def one_run_refutes(
    inverse: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]],
    guesses: int,
    correct: int,
    *,
    canaries: int,
    confidence: float = 0.95,
) -> bool:
    """Whether so many correct guesses refute a trade-off curve.

    >>> one_run_refutes(lambda tpr: tpr, 10, 10, canaries=10)  # no leak at all
    True

    Args:
      inverse: The least false positive rate that the curve allows for a true positive rate, both in
        [0, 1]: the inverse of 1 - f, never falling. Of a (e, delta)-private mechanism it is
        max((tpr - delta) exp(-e), 1 - (1 - tpr) exp(e) - delta, 0).
      guesses: As in `one_run_epsilon`.
      correct: As in `one_run_epsilon`.
      canaries: As in `one_run_epsilon`.
      confidence: Probability that a curve that holds is not refuted.

    Guarantee:
      If adding or removing one canary obeys the curve in both directions, so many correct guesses
      happen with probability at most 1 - confidence, whatever the attack; each canary must have
      been included by a fair coin of its own that the attack does not know. Where P(correct >= v)
      is p, a correct guess and v - 1 others need a wrong guess beside v - 1 correct ones at least
      as often as the curve says. So the probabilities of v - 1, v - 2, ... correct guesses are
      bounded from below in turn, and refuted is a p that makes their sum exceed 1.

    Raises:
      ValueError: A number is out of range.
      TypeError: A count is no integer.

    References:
      Mahloujifar, Melis and Chaudhuri, Auditing f-differential privacy in one run, 2025.
    """
    check_guesses(guesses, correct, canaries)
    check_confidence(confidence)
    return bool(_refuted(inverse, guesses, correct, canaries, 1 - confidence, 1)[0])


def one_run_gaussian_epsilon(
    guesses: int, correct: int, *, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """The epsilon at `delta` of the most Gaussian privacy that so many correct guesses refute.

    >>> round(one_run_gaussian_epsilon(100, 95, canaries=100, delta=1e-5), 2)
    4.8

    Args:
      guesses: As in `one_run_epsilon`.
      correct: As in `one_run_epsilon`.
      canaries: As in `one_run_epsilon`.
      delta: In (0, 1); it only translates, the test is of mu.
      confidence: Of the bound.

    Guarantee:
      That of `one_run_refutes`, for mechanisms whose trade-off curve is a Gaussian one. Of another
      mechanism, such as randomised response, it may exceed epsilon by far.

    Raises:
      ValueError: A number is out of range.
      TypeError: A count is no integer.
    """
    check_guesses(guesses, correct, canaries)
    check_confidence(confidence)
    check_delta(delta, positive=True)
    return gaussian_epsilon(_largest_refuted_mu(guesses, correct, canaries, 1 - confidence), delta)


@functools.lru_cache(maxsize=4096)  # audits of many models meet the same counts
def _largest_refuted_mu(guesses, correct, canaries, level) -> float:
    from scipy.special import ndtr, ndtri

    low, high = 0.0, _LARGEST_MU
    for _ in range(_PASSES):
        mu = np.linspace(low, high, _PARTS + 1)
        refuted = _refuted(
            lambda tpr, mu=mu: ndtr(ndtri(tpr) - mu), guesses, correct, canaries, level, len(mu)
        )
        if not refuted[0]:
            return 0.0
        # The more a curve allows, the less it is refuted: the first that stands ends the list.
        stands = int(np.argmin(refuted)) if not refuted.all() else len(mu)
        low, high = float(mu[stands - 1]), float(mu[min(stands, _PARTS)])
    return low


def _refuted(inverse, guesses, correct, canaries, level, curves) -> Bool[np.ndarray, " curve"]:
    whole = guesses / canaries
    # All of the probability on `correct` itself: more correct guesses would need more wrong ones.
    right = np.full(curves, level * correct / canaries)
    wrong = np.full(curves, level * (guesses - correct) / canaries)
    for fewer in range(correct - 1, -1, -1):
        needed = np.maximum(wrong, inverse(right))
        if np.array_equal(needed, wrong):
            break
        more = fewer / (guesses - fewer) * (needed - wrong)
        right, wrong = np.minimum(right + more, 1.0), needed
        if (right + wrong > whole).all():
            break
    return right + wrong > whole
