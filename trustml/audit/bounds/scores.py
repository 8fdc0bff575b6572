"""A lower bound on epsilon from scores: a threshold, and the price of having chosen it."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from trustml.audit.bounds.counts import Exact, check_ceiling, check_method, strongest
from trustml.audit.bounds.result import Counts, EpsilonBound
from trustml.audit.roc import check_sample
from trustml.stats.intervals import check_confidence

_CANDIDATES = 2_000  # thresholds that a split chooses from: each costs two inverse Beta functions


class Explicit(NamedTuple):
    """One threshold, chosen before seeing the scores: no correction."""

    threshold: float


class Bonferroni(NamedTuple):
    """The best of several thresholds, each tested at the error probability over their number."""

    # Chosen before seeing the scores. None: those at which a half, a quarter, an eighth, ..., one
    # and none of the non-members are called members, or as many members are missed. The price of
    # a rule more is small, that of none near the best is not: half and quarter are always there.
    thresholds: Sequence[float] | None = None


class Split(NamedTuple):
    """The threshold that shows most on a random part of the scores, tested on the rest."""

    rng: np.random.Generator
    part: float = 0.5  # of both samples, used up by the choice


class _Rules(NamedTuple):
    """Thresholds, and the counts of members and others with at least that score."""

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
      correction. Every rule is tested at the error probability over their number, half of it for
      either rate, so that by the union bound all hold at once, and with them the best. Thresholds
      at ranks depend on the scores, their ranks do not: the rate of non-members above the score of
      which r are above has a Beta law whatever the law of the scores, and it is that of the
      Clopper-Pearson bound of r counts (with ties the rate is lower); given that threshold, the
      members above it are a binomial count, bounded as such. "Split" chooses on scores that it does
      not test.

    Raises:
      ValueError: A sample is empty or holds NaN, a number is out of range, or the canaries are too
        few to show anything.

    References:
      Clopper and Pearson, The use of confidence or fiducial limits, 1934. Scheffé and Tukey,
      Non-parametric estimation, I, 1945, for the law of a rate beyond an order statistic.
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
    return _Rules(thresholds, _reaching(member, thresholds), _reaching(nonmember, thresholds))


def _reaching(scores, thresholds, *, strictly=False) -> Int[np.ndarray, " rule"]:
    """How many scores are at least each threshold, or above it. Sorts the few, not the many."""
    order = np.argsort(thresholds)
    passed = np.searchsorted(thresholds[order], scores, side="left" if strictly else "right")
    by_passed = np.bincount(passed, minlength=len(thresholds) + 1)
    found = np.empty(len(thresholds), np.int64)
    found[order] = len(scores) - np.cumsum(by_passed)[:-1]
    return found


def _at_ranks(member, nonmember) -> _Rules:
    """Rules by the number of their errors in one sample; what they do in the other is free.

    Of tied scores fewer may be errors than the rank says; the bound is that of the rank, for which
    alone its law is known.
    """
    members, nonmembers = len(member), len(nonmember)
    wrong, missed = _halved(nonmembers), _halved(members)
    # Strictly above the non-member of the next rank; infinite scores have nothing above.
    cut = _ranked(nonmember, nonmembers - 1 - wrong)
    above = _Rules(np.nextafter(cut, np.inf), _reaching(member, cut, strictly=True), wrong)
    cut = _ranked(member, missed)
    at = _Rules(cut, members - missed, _reaching(nonmember, cut))
    return _Rules(*(np.concatenate(both) for both in zip(above, at, strict=True)))


def _ranked(scores, ranks) -> Float[np.ndarray, " rank"]:
    """The scores at `ranks` of the rising order."""
    return np.partition(scores, np.unique(ranks))[ranks]


def _halved(size: int) -> Int[np.ndarray, " rank"]:
    """0, 1, ..., a quarter and a half of the sample; for a sample of one, 0."""
    return np.array([size >> power for power in range(size.bit_length(), 0, -1)])


def _after_split(member, nonmember, rule: Split, method, delta, level):
    """The rest of the scores, and the rule that the chosen part likes best."""
    if not (0 < rule.part < 1):
        raise ValueError(f"`part` must be in (0, 1), got {rule.part!r}.")
    used, kept = zip(
        *(_parted("member_scores", member, rule), _parted("nonmember_scores", nonmember, rule)),
        strict=True,
    )
    first, second = (np.sort(part) for part in used)
    used = (first, second)
    thresholds = _candidates(used)
    tp, fp = (len(part) - np.searchsorted(part, thresholds, side="left") for part in used)
    sizes = (len(used[0]), len(used[1]))
    _, best = strongest(tp, fp, sizes, method=method, delta=delta, level=level)
    return *kept, _at(thresholds[best : best + 1], *kept)


def _candidates(used) -> Float[np.ndarray, " rule"]:
    """Thresholds to choose from: all sorted scores, or of very many those at so many ranks.

    Ranks lie closer the nearer they are to either end of a sample: which errors are rare counts.
    """
    if sum(map(len, used)) <= _CANDIDATES:
        return np.unique(np.concatenate(used))
    found = []
    for scores in used:
        ranks = np.geomspace(1, len(scores), _CANDIDATES // 4).astype(int)
        found += [scores[ranks - 1], scores[-ranks]]
    return np.unique(np.concatenate(found))


def _parted(name, scores, rule):
    count = round(rule.part * len(scores))
    if not (0 < count < len(scores)):
        raise ValueError(f"`{name}` must hold enough to split, got {len(scores)}.")
    mixed = rule.rng.permutation(scores)
    return mixed[:count], mixed[count:]


def _checked(threshold: float) -> float:
    if threshold != threshold:
        raise ValueError("`threshold` must be a number, got nan.")
    return float(threshold)
