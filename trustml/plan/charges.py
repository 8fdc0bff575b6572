"""What a run releases beside its training, which adds to the cost of its plan."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Charge(NamedTuple):
    """One release beside a training: public, and counted in every claim.

    Attributes:
      what: What was released, such as "schema".
      epsilon: What it costs.
      delta: What it costs.
      how: The mechanism in words, for a statement.
    """

    what: str
    epsilon: float
    delta: float
    how: str

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return self._asdict()


def total_charge(charges: Sequence[Charge]) -> tuple[float, float]:
    """Epsilon and delta of charges together, by basic composition: both add up.

    >>> total_charge([Charge("schema", 0.5, 1e-6, "histograms")])
    (0.5, 1e-06)
    """
    return sum(one.epsilon for one in charges), sum(one.delta for one in charges)


def epsilon_with(plan: Any, charges: Sequence[Charge], delta: float, **options: Any) -> float:
    """Epsilon at `delta` of a plan's steps and of charges, by basic composition.

    >>> from trustml.plan import PrivacyPlan
    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=3.0, sample_rate=0.1, steps=512, expected_batch=100
    ... )
    >>> schema = Charge("schema", 0.5, 1e-7, "noisy histograms")
    >>> round(epsilon_with(plan, [schema], 1e-6) - plan.epsilon(9e-7), 6)
    0.5

    Args:
      plan: A `PrivacyPlan`.
      charges: What was released beside them.
      delta: Of the whole; the steps get what the charges leave.
      **options: Of `PrivacyPlan.epsilon`.

    Guarantee:
      Of adaptive releases on the same units the epsilons and the deltas add up (Dwork and Roth, The
      Algorithmic Foundations of Differential Privacy, 2014, theorem B.1).

    Raises:
      ValueError: The charges alone take `delta`.
    """
    epsilon, spent = total_charge(charges)
    if charges and not spent < delta:
        raise ValueError(
            f"`delta` must be above {spent:g}, which the {charges[0].what} alone took, got {delta}."
        )
    return epsilon + plan.epsilon(delta - spent, **options)
