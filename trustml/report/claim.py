"""What a report claims: the plan, what it promises, and the ledger of what was charged."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field

from trustml.report.measured import Count, Documented, Positive, Share, left_out_if_none

Adjacency = Literal["add-or-remove-one", "replace-one"]


@dataclasses.dataclass(frozen=True)
class Plan(Documented):
    """The privacy plan, every field. Public."""

    clip_norm: Any
    """L2 bound of one unit's gradient: a number, or numbers by layer."""
    noise_multiplier: Positive
    """Standard deviation of the noise over the bound."""
    sample_rate: Share
    """Probability of a unit to take part in a step."""
    steps: Count
    """Steps of a run."""
    expected_batch: Positive
    """Divisor of every step, in units."""
    sampling: str
    """How batches are drawn."""
    adjacency: Adjacency
    """Which two data sets are neighbours."""
    accountant: str
    """Which accountant was asked for. The statement names what epsilon was computed by."""
    clipping: str
    """How a gradient is bounded."""
    clip_quantile: Share | None
    """Part of the units that adaptive bounds leave whole; null for fixed ones."""
    num_microbatches: Count
    """Means that a step bounds instead of units; 0 for none."""
    noise: str
    """How the noise of steps hangs together."""
    noise_memory: Count
    """Copies of the weights that correlated noise keeps."""
    noise_decay: Share
    """Factor on the noise from epoch to epoch."""
    cycle_length: Annotated[int, Field(ge=1)]
    """Groups of units that take turns."""
    num_units: Count
    """Units in the data, a public number."""
    capacity: Count
    """Length of a padded draw, in units."""
    overflow_probability: Share
    """Chance that any draw exceeds the capacity; paid for in delta."""
    dimension: Positive
    """Trained values, at most."""
    unit: str
    """What one unit is."""


@dataclasses.dataclass(frozen=True)
class Release(Documented):
    """A release beside the training. Public."""

    what: str
    """What was released, such as "schema"."""
    epsilon: Positive
    """What it costs."""
    delta: Share
    """What it costs."""
    how: str
    """The mechanism in words."""


@dataclasses.dataclass(frozen=True)
class Privacy(Documented):
    """What is claimed. Public."""

    epsilon: Positive | None
    """Upper bound of epsilon: for the steps charged so far while the run is unfinished, for all
    planned steps once it has ended, early or not; null for infinite: nothing is promised."""
    delta: Share
    """The slack that epsilon is stated at."""
    budget_epsilon: Positive | None
    """Epsilon that the run may not exceed; null where none was given."""
    adjacency: Adjacency
    """Which two data sets are neighbours."""
    unit: str
    """What one unit is."""
    steps_planned: Count
    """Steps of the plan."""
    steps_charged: Count
    """Steps that the ledger charges."""
    epsilon_by_steps: tuple[tuple[Count, Positive | None], ...]
    """Pairs of a number of steps, rising, and the epsilon after it (null for infinite), up to the
    planned steps."""
    statement: str
    """The formal statement, a "Key: text" on each line."""
    segments: Count
    """Times that the run was started or resumed."""
    composed_runs: Count
    """Private trainings on these data by this run; epsilon is of one of them."""
    released_before: Annotated[tuple[Release, ...] | None, left_out_if_none()] = None
    """What was released before the training; epsilon counts it. Absent where nothing was."""


@dataclasses.dataclass(frozen=True)
class LedgerSegment(Documented):
    """One start of the run."""

    number: Count
    """From 0."""
    start: Count
    """Steps done before it."""
    charged: Count
    """Steps it charges."""
    reason: str
    """Why it began."""


@dataclasses.dataclass(frozen=True)
class Ledger(Documented):
    """What the ledger charged. Public."""

    file: str
    """Name of its file, in the run's folder."""
    head: str
    """SHA-256 of its last entry, hexadecimal digits."""
    segments: tuple[LedgerSegment, ...]
    """Each start of the run."""
