"""What an audit of scores returns: typed, and as the document `audit.json`."""

from typing import Any, NamedTuple

from trustml.audit import MembershipResult
from trustml.formatting import round_down
from trustml.recipes.scores.bounds import Bound

PRIVATE = "attacks and bounds: measured on who was in the training data"
ADJACENCY = "add-or-remove-one"
_TRIALS = {
    "independent": (
        "rows are independent trials: each score comes from a training run of its own, or from a "
        "model that treats rows apart. Many rows of one model are not; where a fair coin put each "
        "of them in or out, `--one-run` needs no independence"
    ),
    "one run": (
        "in one training run a fair coin of its own put each row in or left it out, and the scores "
        "have not read the coins. Nothing else is assumed of the training"
    ),
}


class Success(NamedTuple):
    """How well an attack tells members, and the epsilon that this refutes."""

    result: MembershipResult
    bounds: tuple[Bound, ...]  # the first is compared with a claim

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**_rates(self.result), "bounds": [bound.to_dict() for bound in self.bounds]}


class SliceResults(NamedTuple):
    """An attack on each slice of the units."""

    slices: dict[str, Success]
    worst: str  # the slice with the largest area under the curve
    worst_result: MembershipResult  # its intervals allow for the choice among all slices
    left_out: dict[str, str]  # slices too small for intervals, and why


class AttackResult(NamedTuple):
    """One attack, on all units and on each slice."""

    whole: Success
    slices: SliceResults | None

    def compared(self) -> dict[str, Bound]:
        """The bounds to compare with a claim, by slice; "" is the whole."""
        sliced = {} if self.slices is None else self.slices.slices
        return {name: one.bounds[0] for name, one in {"": self.whole, **sliced}.items()}

    def to_dict(self, *, curve: bool) -> dict[str, Any]:
        """As JSON holds it.

        Args:
          curve: Whether with the ROC curve, which has a point for each score.
        """
        document, roc = self.whole.to_dict(), self.whole.result.roc
        if curve:
            document["roc"] = {"fpr": roc.fpr.tolist(), "tpr": roc.tpr.tolist()}
        if self.slices is not None:
            slices = self.slices
            document["slices"] = {name: one.to_dict() for name, one in slices.slices.items()}
            document["worst_slice"] = {"slice": slices.worst, **_rates(slices.worst_result)}
            document["slices_left_out"] = slices.left_out
        return document


class ClaimResult(NamedTuple):
    """A claim against the largest lower bound."""

    epsilon: float
    delta: float
    adjacency: str
    refuted: bool
    largest_bound: float
    by: str  # attack, and slice
    largest_that_could_be_shown: float  # if no guess were wrong

    def verdict(self, confidence: float) -> str:
        """Whether the claim holds, in words."""
        claim = (
            f"the claim of epsilon {self.epsilon} at delta {self.delta} under adding or removing "
            "one row"
        )
        least = round_down(self.largest_bound)
        if self.refuted:
            return (
                f"REFUTED: {claim} does not hold, with {percent(confidence)} confidence: epsilon "
                f"is at least {least} (by {self.by}), if what is assumed below is so."
            )
        return (
            f"Not refuted: {claim}; the largest bound is {least}. That proves no privacy: a "
            "stronger attack may show more."
        )


class ScoresAudit(NamedTuple):
    """What scores show of a model's privacy. Private quantities."""

    file: str
    members: int
    nonmembers: int
    one_run: bool
    delta: float
    confidence: float
    claim: ClaimResult | None
    attacks: dict[str, AttackResult]
    missing: dict[str, str]  # attacks that the file is not enough for, and why
    notes: tuple[str, ...]

    @property
    def assumed(self) -> str:
        """What the bounds assume about how rows became members."""
        return _TRIALS[self._trials]

    @property
    def verdict(self) -> str:
        """Whether the claim holds, in words; empty where there is none."""
        return "" if self.claim is None else self.claim.verdict(self.confidence)

    @property
    def _trials(self) -> str:
        return "one run" if self.one_run else "independent"

    def to_dict(self, *, curves: bool = True) -> dict[str, Any]:
        """The document `audit.json`, infinities included.

        Args:
          curves: Whether with ROC curves, which have a point for each score.
        """
        attacks = {name: one.to_dict(curve=curves) for name, one in self.attacks.items()}
        return {
            "private": PRIVATE,
            "file": self.file,
            "members": self.members,
            "nonmembers": self.nonmembers,
            "trials": self._trials,
            "assumed": self.assumed,
            "delta": self.delta,
            "confidence": self.confidence,
            "claim": self.claim and self.claim._asdict(),
            "refuted": self.claim and self.claim.refuted,
            "attacks": attacks,
            "missing": self.missing,
            "notes": list(self.notes),
        }


def percent(share: float) -> str:
    """A share in percent, without needless digits.

    >>> percent(0.95), percent(0.9875)
    ('95%', '98.75%')
    """
    return f"{100 * share:.6g}%"


def _rates(result: MembershipResult) -> dict[str, Any]:
    return {
        "members": result.members,
        "nonmembers": result.nonmembers,
        "confidence": result.confidence,
        "auc": result.auc._asdict(),
        "tpr_at_fpr": [
            {
                "rate": at.rate,
                "tpr": at.tpr and at.tpr._asdict(),
                "fpr": at.fpr and at.fpr._asdict(),
                "note": at.note,
            }
            for at in result.tpr_at_fpr
        ],
        "advantage": result.advantage._asdict(),
        "balanced_accuracy": result.balanced_accuracy._asdict(),
    }
