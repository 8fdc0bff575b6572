"""A lower bound on epsilon from one trained model, by many canaries instead of many runs."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from trustml.audit.bounds.one_run_curve import one_run_gaussian_epsilon
from trustml.audit.bounds.result import EpsilonBound, check_delta, check_guesses
from trustml.audit.roc import check_sample
from trustml.stats.intervals import check_confidence

_FEWEST = 16  # guesses tried by default; all of so few right show an epsilon of 1 at most
_HALVINGS = 50

_Sides = Literal["both", "members", "nonmembers"]
Promise = Literal["epsilon-delta", "gaussian"]


def one_run_audit(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
    guesses: Sequence[int] | None = None,
    sides: _Sides = "both",
    promise: Promise = "epsilon-delta",
) -> EpsilonBound:
    """The largest epsilon that the scores of canaries refute.

    The canaries with the highest scores are guessed to be members, those with the lowest not to
    be, half of the guesses each. A weak score refutes little: that finds no privacy.

    >>> found = one_run_audit(np.arange(64, 128), np.arange(64), delta=0.0)
    >>> round(found.epsilon, 3), found.guesses, found.correct
    (3.357, 128, 128)

    Args:
      member_scores: Scores of the canaries that were trained on; higher is more like a member.
      nonmember_scores: Scores of those that were left out.
      delta: The delta of the promise under audit; 0 for a pure one.
      confidence: Probability, over canaries and training, that the training is no better.
      guesses: Numbers of guesses to try, each tested at (1 - confidence) / how many there are.
        Choose them before seeing scores. By default all canaries and the powers of two from 16.
      sides: "both", or only guesses of one kind: better where only members, or only non-members,
        have telling scores. Choose it before seeing scores.
      promise: "epsilon-delta", or "gaussian": the epsilon at `delta` of the Gaussian privacy that
        is refuted. The second shows more, and only of mechanisms whose trade-off curve is a
        Gaussian one; see `one_run_gaussian_epsilon`.

    Guarantee:
      If the training is (e, delta)-private under adding or removing one canary, the result
      exceeds e with probability at most 1 - confidence. Each canary must have been included by
      an independent fair coin that the attack does not know: equal halves, canaries chosen by
      their scores, or a score that reads who is a member void it. Of tied scores the wrong
      guesses come first, so that no order of them would give less. A `ceiling` of 0 says that so
      few guesses could have shown nothing.

    Raises:
      ValueError: A sample is empty or holds NaN, or a number is out of range.
      TypeError: A number of guesses is no integer.

    References:
      Steinke, Nasr and Jagielski, Privacy Auditing with One (1) Training Run, 2023. Mahloujifar,
      Melis and Chaudhuri, Auditing f-differential privacy in one run, 2025, for "gaussian".
    """
    member = check_sample("member_scores", member_scores)
    nonmember = check_sample("nonmember_scores", nonmember_scores)
    canaries = len(member) + len(nonmember)
    tried = _default_guesses(canaries) if guesses is None else sorted(set(guesses), reverse=True)
    if not tried:
        raise ValueError("`guesses` must hold at least one number, got none.")
    check_confidence(confidence)
    for name, value, known in (("sides", sides, _LOWEST), ("promise", promise, _EPSILONS)):
        if value not in known:
            raise ValueError(f"`{name}` must be any of {', '.join(known)}, got {value!r}.")
    each = 1 - (1 - confidence) / len(tried)
    shown = functools.partial(_EPSILONS[promise], canaries=canaries, delta=delta, confidence=each)
    truth = _worst_order(member, nonmember)
    found = []
    for number in tried:
        check_guesses(number, 0, canaries)
        correct = _correct(truth, number, sides)
        found.append((shown(number, correct), number, correct))
    epsilon, number, correct = max(found, key=operator.itemgetter(0))
    ceiling = max(shown(number, number) for number in tried)
    method = f"one run, best of {len(tried)} numbers of guesses, Bonferroni"
    if (sides, promise) != ("both", "epsilon-delta"):
        method = f"{method}; {promise}, guesses of {sides}"
    return EpsilonBound(epsilon, confidence, method, canaries, ceiling, number, correct)


def one_run_epsilon(
    guesses: int, correct: int, *, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """The largest epsilon that so many correct guesses refute; 0 where they refute none.

    >>> round(one_run_epsilon(100, 100, canaries=1000, delta=0.0), 3)
    3.493

    Args:
      guesses: Canaries guessed, a number fixed before seeing scores; the others were left out.
      correct: How many of them were right.
      canaries: All of them, guessed or not.
      delta: The delta of the promise under audit.
      confidence: Of the bound.

    Raises:
      ValueError: A number is out of range.
    """
    check_guesses(guesses, correct, canaries)
    check_confidence(confidence)
    check_delta(delta)
    return _largest_refuted(guesses, correct, canaries, delta, 1 - confidence)


@functools.lru_cache(maxsize=4096)  # audits of many models meet the same counts
def _largest_refuted(guesses, correct, canaries, delta, level) -> float:
    def refuted(epsilon):
        p_value = one_run_p_value(guesses, correct, canaries=canaries, epsilon=epsilon, delta=delta)
        return p_value <= level

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def one_run_p_value(
    guesses: int, correct: int, *, canaries: int, epsilon: float, delta: float
) -> float:
    """Probability, at most, of that many correct guesses if training is (epsilon, delta)-private.

    >>> one_run_p_value(2, 2, canaries=2, epsilon=0.0, delta=0.0)
    0.25

    Args:
      guesses: As in `one_run_epsilon`.
      correct: As in `one_run_epsilon`.
      canaries: As in `one_run_epsilon`.
      epsilon: The promise to test.
      delta: Its delta, in [0, 1).

    Raises:
      ValueError: A number is out of range.
    """
    check_guesses(guesses, correct, canaries)
    if not (epsilon >= 0):
        raise ValueError(f"`epsilon` must not be negative, got {epsilon!r}.")
    check_delta(delta)
    if epsilon == math.inf or correct == 0:
        return 1.0
    # Without delta each guess is right with at most this probability, whatever the others are.
    right, wrong = -np.logaddexp(0.0, -epsilon), -np.logaddexp(0.0, epsilon)
    counts = np.arange(guesses + 1)
    chance = np.exp(_log_ways(guesses) + counts * right + (guesses - counts) * wrong)
    tail = chance[correct:].sum()
    # Delta hands over 2 m delta more correct guesses on average; an adversary hands them over, i
    # at a time, where they lift the count over the threshold most often.
    lifted = np.cumsum(chance[correct - 1 :: -1]) / np.arange(1, correct + 1)
    return min(1.0, float(tail + 2 * canaries * delta * lifted.max()))


@functools.lru_cache(maxsize=16)
def _log_ways(guesses: int) -> Float[np.ndarray, " count"]:
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, guesses + 1)))])
    return logs[guesses] - logs - logs[::-1]


def _default_guesses(canaries: int) -> list[int]:
    powers = [_FEWEST << power for power in range(canaries.bit_length())]
    return [canaries, *reversed([power for power in powers if power < canaries])]


def _worst_order(member, nonmember):
    """Membership from the highest score down; guesses from both ends meet errors first."""
    scores = np.concatenate([member, nonmember])
    truth = np.arange(len(scores)) < len(member)
    # Reading the truth can only lose: the fewest correct of any order of the tied.
    return truth[np.lexsort((truth, -scores))]


# How many of the guesses are made from the lowest scores up.
_LOWEST = {
    "both": lambda guesses: guesses // 2,
    "members": lambda guesses: 0,
    "nonmembers": lambda guesses: guesses,
}
_EPSILONS = {"epsilon-delta": one_run_epsilon, "gaussian": one_run_gaussian_epsilon}


def _correct(truth: Bool[np.ndarray, " canary"], guesses: int, sides: _Sides) -> int:
    lowest = _LOWEST[sides](guesses)
    highest = guesses - lowest
    return int(truth[:highest].sum() + lowest - truth[len(truth) - lowest :].sum())
