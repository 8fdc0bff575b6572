"""A lower bound on epsilon from scores: a threshold, and the price of having chosen it."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from trustml.audit.bounds.counts import Exact, check_ceiling, check_method, strongest
from trustml.audit.bounds.result import Counts, EpsilonBound
from trustml.audit.intervals import check_confidence
from trustml.audit.roc import check_sample


class Explicit(NamedTuple):
    """One threshold, chosen before seeing the scores: no correction."""

    threshold: float


class Bonferroni(NamedTuple):
    """The best of several thresholds, each tested at the error probability over their number."""

    # Chosen before seeing the scores. None: those at which 0, 1, 2, 4, 8, ... non-members are
    # called members, or as many members are missed. Ranks are fixed beforehand, and the rate
    # beyond an order statistic has the very Beta law of the Clopper-Pearson bound.
    thresholds: Sequence[float] | None = None


class Split(NamedTuple):
    """The threshold that shows most on a random part of the scores, tested on the rest."""

    rng: np.random.Generator
    part: float = 0.5  # of both samples, used up by the choice


class _Rules(NamedTuple):
    """What is tested: a threshold, and the counts of whoever has at least that score."""

    threshold: Float[np.ndarray, " rule"]
    tp: Int[np.ndarray, " rule"]
    fp: Int[np.ndarray, " rule"]


def epsilon_from_scores(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    *,
    delta: float,
    confidence: float = 0.95,
    method: Exact = "clopper-pearson",
    threshold: Explicit | Bonferroni | Split = Bonferroni(),  # noqa: B008, an immutable tuple
) -> EpsilonBound:
    """The largest epsilon that thresholds on the scores refute, the choice among them paid for.

    >>> found = epsilon_from_scores(np.arange(100, 200), np.arange(100), delta=0.0)
    >>> round(found.epsilon, 3), round(found.threshold, 3)
    (2.728, 99.0)

    Args:
      member_scores: Scores of units that were trained on; higher is more like a member. For one
        unit in many runs: the scores of the runs that had it.
      nonmember_scores: Scores of those that were not.
      delta: The delta of the promise under audit; "gdp" needs more than 0.
      confidence: Probability that the bound holds, of the whole.
      method: "clopper-pearson", or "gdp" for Gaussian mechanisms; see `epsilon_from_counts`.
      threshold: How the threshold is chosen.

    Guarantee:
      That of `epsilon_from_counts`, whose assumptions it needs: scores that are independent and of
      one law within each sample. Canaries of one model are not independent, unless the model
      treats them apart; `one_run_audit` needs no such assumption. Both directions, calling high
      scores members and calling low ones non-members, rest on the same two bounds and need no
      correction.

    Raises:
      ValueError: A sample is empty or holds NaN, a number is out of range, or the canaries are too
        few to show anything.
    """
    member = check_sample("member_scores", member_scores)
    nonmember = check_sample("nonmember_scores", nonmember_scores)
    check_confidence(confidence)
    check_method(method, get_args(Exact), delta)
    how = "one threshold, chosen beforehand"
    canaries = len(member) + len(nonmember)
    if isinstance(threshold, Split):
        how = f"threshold chosen on a random {threshold.part:.0%} of the scores"
        level = 1 - confidence
        member, nonmember, rules = _after_split(member, nonmember, threshold, method, delta, level)
    elif isinstance(threshold, Explicit):
        rules = _at(np.array([_checked(threshold.threshold)]), member, nonmember)
    else:
        rules = _several(threshold, member, nonmember)
        how = f"best of {len(rules.tp)} thresholds, Bonferroni"
    level = (1 - confidence) / len(rules.tp)
    sizes = (len(member), len(nonmember))
    none_wrong = (np.array([sizes[0]]), np.array([0]))
    ceiling, _ = strongest(*none_wrong, sizes, method=method, delta=delta, level=level)
    check_ceiling(ceiling, *sizes, level)
    epsilon, best = strongest(rules.tp, rules.fp, sizes, method=method, delta=delta, level=level)
    tp, fp = int(rules.tp[best]), int(rules.fp[best])
    return EpsilonBound(
        epsilon,
        confidence,
        f"{method}, {how}",
        canaries,
        ceiling,
        threshold=float(rules.threshold[best]),
        counts=Counts(tp, sizes[0] - tp, fp, sizes[1] - fp),
    )


def _several(rule: Bonferroni, member, nonmember) -> _Rules:
    if not isinstance(rule, Bonferroni):
        raise TypeError(f"`threshold` must be Explicit, Bonferroni or Split, got {rule!r}.")
    if rule.thresholds is None:
        return _at_ranks(member, nonmember)
    if len(rule.thresholds) == 0:
        raise ValueError("`thresholds` must hold at least one number, got none.")
    return _at(np.unique([_checked(value) for value in rule.thresholds]), member, nonmember)


def _at(thresholds, member, nonmember) -> _Rules:
    def reach(scores):
        return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")

    return _Rules(thresholds, reach(member), reach(nonmember))


def _at_ranks(member, nonmember) -> _Rules:
    """Rules by the number of their errors in one sample; what they do in the other is free.

    Of tied scores fewer may be errors than the rank says; the bound is that of the rank, for which
    alone its law is known.
    """
    members, nonmembers = len(member), len(nonmember)
    wrong, missed = _powers(nonmembers), _powers(members)
    falling, rising = np.sort(nonmember)[::-1], np.sort(member)
    # Strictly above the non-member of the next rank; infinite scores have nothing above.
    cut = falling[wrong]
    above = _Rules(
        np.nextafter(cut, np.inf),
        members - np.searchsorted(rising, cut, side="right"),
        wrong,
    )
    cut = rising[missed]
    at = _Rules(
        cut,
        members - missed,
        nonmembers - np.searchsorted(falling[::-1], cut, side="left"),
    )
    return _Rules(*(np.concatenate(both) for both in zip(above, at, strict=True)))


def _powers(size: int) -> Int[np.ndarray, " rank"]:
    """0, 1, 2, 4, ... up to half of the sample."""
    powers = [0, *(1 << power for power in range(size.bit_length()))]
    return np.array([power for power in powers if power == 0 or power <= size // 2])


def _after_split(member, nonmember, rule: Split, method, delta, level):
    """The rest of the scores, and the rule that the chosen part likes best."""
    if not (0 < rule.part < 1):
        raise ValueError(f"`part` must be in (0, 1), got {rule.part!r}.")
    used, kept = zip(
        *(_parted("member_scores", member, rule), _parted("nonmember_scores", nonmember, rule)),
        strict=True,
    )
    rules = _at(np.unique(np.concatenate(used)), *used)
    sizes = (len(used[0]), len(used[1]))
    _, best = strongest(rules.tp, rules.fp, sizes, method=method, delta=delta, level=level)
    return *kept, _at(rules.threshold[best : best + 1], *kept)


def _parted(name, scores, rule):
    count = round(rule.part * len(scores))
    if not (0 < count < len(scores)):
        raise ValueError(f"`{name}` must hold enough to split, got {len(scores)}.")
    order = rule.rng.permutation(len(scores))
    return scores[order[:count]], scores[order[count:]]


def _checked(threshold: float) -> float:
    if threshold != threshold:
        raise ValueError("`threshold` must be a number, got nan.")
    return float(threshold)
