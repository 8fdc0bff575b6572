"""What a report holds of measurements: every figure here is private.

They were computed on people's rows without noise. A null is a value that was not measured.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

T = TypeVar("T")
U = TypeVar("U")
Count = Annotated[int, Field(ge=0)]


def _check_size(value: int | float) -> int | float:
    """Refuses whole numbers that no float holds: JSON has them, arithmetic would overflow."""
    if not abs(value) <= sys.float_info.max:
        raise PydanticCustomError("float_size", "Input should fit in a float")
    return value


# A whole number stays one when it is read again, as `float` alone would not keep it.
Number = Annotated[int | float, AfterValidator(_check_size), WithJsonSchema({"type": "number"})]
Positive = Annotated[
    int | float,
    Field(ge=0),
    AfterValidator(_check_size),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
Share = Annotated[
    int | float,
    Field(ge=0, le=1),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]
Settings = dict[str, Any]  # names that a network or a preset chooses
Scores = dict[str, Any]


def left_out_if_none() -> object:
    """Of a field that the document leaves out, rather than hold null."""
    return Field(exclude_if=lambda value: value is None)


class Documented:
    """Base of all parts: their docstrings describe them in the JSON Schema too."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)


@dataclasses.dataclass(frozen=True)
class Arms(Documented, Generic[T]):
    """The private arm, and the baseline arm where there is one.

    >>> list(Arms(0.71, 0.96))
    [('private', 0.71), ('baseline', 0.96)]
    """

    private: T
    """The model trained with the plan's noise."""
    baseline: Annotated[T | None, left_out_if_none()] = None
    """The same training without clipping and noise; null where it was not run."""

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Names and values of the arms that were run."""
        yield "private", self.private
        if self.baseline is not None:
            yield "baseline", self.baseline

    def map(self, function: Callable[[T], U]) -> "Arms[U]":
        """What the function makes of each arm.

        >>> Arms(2, 3).map(float)
        Arms(private=2.0, baseline=3.0)
        """
        return Arms(**{name: function(arm) for name, arm in self})

    def get(self, name: str) -> T | None:
        """The arm of that name, or None where it was not run.

        >>> Arms(0.71).get("baseline")
        """
        return dict(self).get(name)


@dataclasses.dataclass(frozen=True)
class Estimate(Documented):
    """A measured value with its interval. Private: computed on rows without noise."""

    value: Number
    """The point estimate."""
    low: Number | None
    """Lower end of the interval; null where there is none."""
    high: Number | None
    """Upper end of the interval; null where there is none."""
    interval: str
    """Which interval it is, with its confidence: "Wilson, 95 %"."""


Estimates = dict[str, Estimate]


@dataclasses.dataclass(frozen=True)
class ArmResults(Documented):
    """One arm's results."""

    epsilon: Positive | None
    """Claimed epsilon of this arm, upper bound; null for infinite, as of a baseline."""
    metrics: Estimates
    """Estimates by the name of the metric. Private."""
    step_ms: Positive | None = None
    """Median time of a training step in milliseconds. Private."""
    train_seconds: Positive | None = None
    """Time of the training in seconds, compiling included. Private."""
    runs: tuple[Scores, ...] = ()
    """Scores of each repeat by name. Private."""


@dataclasses.dataclass(frozen=True)
class RateFound(Documented):
    """Members found at one false positive rate."""

    rate: Share
    """False positive rate that is allowed."""
    tpr: Estimate | None
    """Share of members found; null where the sample cannot show so low a rate."""
    note: str = ""
    """Why `tpr` is null, or what must be known to read it; may be empty."""


@dataclasses.dataclass(frozen=True)
class Roc(Documented):
    """The curve of an attack, from (0, 0) to (1, 1)."""

    fpr: tuple[Share, ...]
    """False positive rates, rising."""
    tpr: tuple[Share, ...]
    """True positive rates, as long as `fpr`."""


@dataclasses.dataclass(frozen=True)
class Bound(Documented):
    """A lower bound of epsilon that an audit proves."""

    value: Positive
    """Lower bound of epsilon; 0 where nothing was proved."""
    guesses: Count | None
    """Guesses that the audit made."""
    correct: Count | None
    """Guesses that were right."""
    confidence: Share
    """Probability, over repeated audits, that the bound holds."""
    method: str
    """How the bound was obtained, and what it assumes."""


@dataclasses.dataclass(frozen=True)
class CanaryAudit(Documented):
    """The audit by one kind of canary."""

    canaries: str
    """"rows" of the data, "mislabelled rows" or "gradients" of known size."""
    members: Count
    """Canaries that were in."""
    nonmembers: Count
    """Canaries that were left out."""
    value: Positive
    """Lower bound of epsilon; 0 where nothing was proved."""
    confidence: Share
    """Probability, over repeated audits, that the bound holds."""
    guesses: Count | None
    """Guesses that the audit made."""
    correct: Count | None
    """Guesses that were right."""
    method: str
    """How the bound was obtained, and what it assumes."""


@dataclasses.dataclass(frozen=True)
class ArmAttack(Documented):
    """What the attack achieves on one model. Private."""

    auc: Estimate
    """Area under the ROC curve; 0.5 is guessing."""
    tpr_at_fpr: tuple[RateFound, ...] = ()
    """Members found at given false positive rates."""
    roc: Roc | None = None
    """The curve."""
    epsilon_lower_bound: Bound | None = None
    """Epsilon that the attack proves the model to have, at least."""
    audits: Annotated[tuple[CanaryAudit, ...] | None, left_out_if_none()] = None
    """The audit by each kind of canary; all their bounds hold together with the confidence of
    `epsilon_lower_bound`, which is the best of them."""


@dataclasses.dataclass(frozen=True)
class Attack(Documented):
    """Membership attack. Private. With repeats: on the first run."""

    how: str
    """Which attack, on which rows, and what is assumed."""
    confidence: Share
    """Of every interval."""
    members: Count
    """Rows that were trained on."""
    nonmembers: Count
    """Rows that were not."""
    arms: Arms[ArmAttack]
    """By model."""


@dataclasses.dataclass(frozen=True)
class ArmGroup(Documented):
    """One model's figures on one group. Private."""

    metrics: Estimates
    """Estimates by the name of the metric."""
    attack_auc: Estimate | None = None
    """Area under the attack's ROC curve within the group; null where the group is too small."""


@dataclasses.dataclass(frozen=True)
class Group(Documented):
    """A group of people or of rows. Private."""

    by: str
    """What the groups are of, such as "speech"."""
    name: str
    """Name of the group."""
    evaluated: Count
    """Rows of the group that the models were evaluated on."""
    arms: Arms[ArmGroup]
    """By model."""


@dataclasses.dataclass(frozen=True)
class ArmTiming(Documented):
    """One model's time. Private."""

    step_ms: Positive
    """Median time of a whole step in milliseconds."""
    parts_ms: dict[str, Positive]
    """Milliseconds by part: "clipped gradient" or "gradient", "noise", "optimizer". Timed by
    themselves; the rest of the step is the page's subtraction."""


@dataclasses.dataclass(frozen=True)
class Timing(Documented):
    """Where a step's time goes. Private."""

    batch: Positive
    """Units of a step."""
    arms: Arms[ArmTiming]
    """By model."""


@dataclasses.dataclass(frozen=True)
class Clipping(Documented):
    """Gradient norms over the steps. Private."""

    clip_norm: Any
    """L2 bound of one unit's gradient: a number, or numbers by layer."""
    steps: tuple[Count, ...]
    """Steps, rising."""
    clipped_share: tuple[Share | None, ...]
    """Share of the step's units whose gradient was cut."""
    mean_norm: tuple[Positive | None, ...]
    """Mean l2 norm before clipping."""
    dropped: Count = 0
    """Units left out as their gradient was not finite, in all steps."""


@dataclasses.dataclass(frozen=True)
class ArmLearning(Documented):
    """One model's training. Private."""

    steps: tuple[Count, ...]
    """Steps at which the loss was noted."""
    loss: tuple[Number | None, ...]
    """Mean loss of the step's rows; null where it was not finite."""
    evaluations: tuple[Scores, ...] = ()
    """Scores along the way by name, each with its `step`."""
