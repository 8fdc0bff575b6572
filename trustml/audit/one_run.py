"""A lower bound on epsilon from one trained model, by many canaries instead of many runs."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from trustml.audit.intervals import check_confidence
from trustml.audit.roc import check_sample

_FEWEST = 16  # guesses tried by default; all of so few right show an epsilon of 1 at most
_HALVINGS = 50


class OneRunResult(NamedTuple):
    """What one model proves about its training, and the guesses that prove it."""

    epsilon: float  # the training is not (epsilon, delta)-private, with `confidence`
    confidence: float  # of the whole, however many numbers of guesses were tried
    guesses: int  # the number that won
    correct: int
    canaries: int
    method: str


def one_run_audit(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
    guesses: Sequence[int] | None = None,
) -> OneRunResult:
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

    Guarantee:
      If the training is (e, delta)-private under adding or removing one canary, the result
      exceeds e with probability at most 1 - confidence. Each canary must have been included by
      an independent fair coin that the attack does not know: equal halves, canaries chosen by
      their scores, or a score that reads who is a member void it. Of tied scores the wrong
      guesses come first, so that no order of them would give less.

    Raises:
      ValueError: A sample is empty or holds NaN, or a number is out of range.
      TypeError: A number of guesses is no integer.

    References:
      Steinke, Nasr and Jagielski, Privacy Auditing with One (1) Training Run, 2023.
    """
    member = check_sample("member_scores", member_scores)
    nonmember = check_sample("nonmember_scores", nonmember_scores)
    canaries = len(member) + len(nonmember)
    tried = _default_guesses(canaries) if guesses is None else sorted(set(guesses), reverse=True)
    if not tried:
        raise ValueError("`guesses` must hold at least one number, got none.")
    check_confidence(confidence)
    each = 1 - (1 - confidence) / len(tried)
    truth = _worst_order(member, nonmember)
    found = []
    for number in tried:
        _check_count("guesses", number, 1, "canaries", canaries)
        correct = _correct(truth, number)
        epsilon = one_run_epsilon(number, correct, canaries=canaries, delta=delta, confidence=each)
        found.append((epsilon, number, correct))
    epsilon, number, correct = max(found, key=operator.itemgetter(0))
    method = f"one run, best of {len(tried)} numbers of guesses, Bonferroni"
    return OneRunResult(epsilon, confidence, number, correct, canaries, method)


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
    check_confidence(confidence)
    level = 1 - confidence

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
    _check_count("canaries", canaries, 1, "infinity", math.inf)
    _check_count("guesses", guesses, 1, "canaries", canaries)
    _check_count("correct", correct, 0, "guesses", guesses)
    if not (epsilon >= 0):
        raise ValueError(f"`epsilon` must not be negative, got {epsilon!r}.")
    if not (0 <= delta < 1):
        raise ValueError(f"`delta` must be in [0, 1), got {delta!r}.")
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
    """Who is a member, from the highest score down; guesses from both ends meet errors first."""
    scores = np.concatenate([member, nonmember])
    truth = np.arange(len(scores)) < len(member)
    # Reading the truth can only lose: the fewest correct of any order of the tied.
    return truth[np.lexsort((truth, -scores))]


def _correct(truth, guesses: int) -> int:
    lowest = guesses // 2
    highest = guesses - lowest
    return int(truth[:highest].sum() + lowest - truth[len(truth) - lowest :].sum())


def _check_count(name: str, value: int, least: int, limit: str, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if not (least <= value <= most):
        bound = f"from {least} to `{limit}` ({most})" if most < math.inf else f"at least {least}"
        raise ValueError(f"`{name}` must be {bound}, got {value!r}.")
