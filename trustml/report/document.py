"""The trust report of one run: its claim of privacy, its utility, what attacks find.

A null is an infinity, which JSON does not have, or a value that is not available. `schema.json` is
generated from these classes.
"""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field

from trustml.report.measured import (
    ArmLearning,
    ArmResults,
    Arms,
    Attack,
    Bound,
    Clipping,
    Count,
    Documented,
    Group,
    Positive,
    Settings,
    Share,
    Timing,
    left_out_if_none,
)

SCHEMA_VERSION: Literal[3] = 3  # 3 renames: judged, evaluated; judged_on, eval_split; sides, arms
PRIVATE = (
    "results, attack, groups, timing, clipping, learning: computed on people's rows without noise"
)
Status = Literal["complete", "stopped early", "budget spent", "unfinished"]
Adjacency = Literal["add-or-remove-one", "replace-one"]


@dataclasses.dataclass(frozen=True)
class Run(Documented):
    """The run. Public."""

    name: str
    """Name of the run, as its folder."""
    id: str
    """Random identity of the run, 32 hexadecimal digits."""
    repeats: Count
    """Private trainings of this run, each with the whole plan. Above 1 the results are means;
    attack, groups, clipping and learning are those of the first."""
    seeded: bool
    """True where the keys come from a seed given by hand, which voids the promise against whoever
    knows it."""


@dataclasses.dataclass(frozen=True)
class Data(Documented):
    """The data. Names and sizes are taken as public."""

    name: str
    """Name of the data set."""
    privacy_unit: str
    """What one row is, such as "utterance" or "user"."""
    fingerprint: str | None = None
    """SHA-256 of the training rows in hexadecimal digits, or null. Two runs with the same one spend
    one budget. Private where the data could be guessed whole."""
    synthetic: Annotated[bool | None, left_out_if_none()] = None
    """True where no row comes from a person; absent where that is not known."""
    source: Annotated[str | None, left_out_if_none()] = None
    """Where the data come from."""
    train: Annotated[Count | None, left_out_if_none()] = None
    """Units trained on."""
    held_out: Annotated[Count | None, left_out_if_none()] = None
    """Units kept aside for attacks and choices."""
    eval_split: Annotated[str | None, left_out_if_none()] = None
    """Part of the data that the models were evaluated on."""
    evaluated: Annotated[Count | None, left_out_if_none()] = None
    """Rows of that part."""
    max_examples_per_unit: Annotated[Count | None, left_out_if_none()] = None
    """Examples of one unit that are read, at most."""
    assumed_public: Annotated[tuple[str, ...] | None, left_out_if_none()] = None
    """What was read off the rows, and is treated as public all the same."""


@dataclasses.dataclass(frozen=True)
class Training(Documented):
    """Settings of each training, and what they share. Public, if none was tuned on the data."""

    private: Settings
    """Of the private training: expected_batch, steps, learning_rate, clip_norm, schedule."""
    baseline: Settings | None = None
    """Settings of the baseline, or null."""
    pretraining: str | None = None
    """What the weights were trained on before, which is public; null for nothing."""
    strategy: str | None = None
    """How gradients of single units are bounded."""
    physical_batch_size: Count | str | None = None
    """Units computed at a time, "auto", or null for all at once."""


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
class Metric(Documented):
    """A metric."""

    name: str
    """Its key in `results` and `groups`."""
    label: str
    """What people call it."""
    percent: bool
    """True where it is shown in percent; its values are shares all the same."""
    lower_is_better: bool = False
    """True of perplexities and the like."""


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


@dataclasses.dataclass(frozen=True)
class Description(Documented):
    """What is known of a run before it begins; `resolved.yaml` keeps it."""

    delta: Share
    """For every epsilon."""
    budget_epsilon: Positive | None
    """Epsilon that the run may not exceed."""
    plan: Plan
    """The privacy plan."""
    data: Data
    """The data."""
    model: Settings
    """The network: its name and any scalars."""
    training: Training
    """Settings of each training."""
    notes: tuple[str, ...]
    """Limits and assumptions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Documented):
    """One run: what is claimed about its privacy, what it is worth, what attacks found.

    Private fields are computed on people's rows without noise. A null is an
    infinity, which JSON does not have, or a value that is not available.
    """

    schema_version: Literal[3]
    """Version of this document. Public."""
    private: str
    """Which parts are private quantities, and how to handle them. Public."""
    status: Status
    """Whether all planned steps were carried out. Public."""
    made: str
    """When the document was written, ISO 8601 with time zone. Public."""
    run: Run
    """The run. Public."""
    data: Data
    """The data. Names and sizes are taken as public."""
    model: Settings
    """The network: its name as `network`, and any scalars. Public."""
    training: Training | None
    """Settings of each training; null where only the ledger is known. Public."""
    plan: Plan
    """The privacy plan, every field. Public."""
    privacy: Privacy
    """What is claimed. Public."""
    results: Arms[ArmResults] | None = None
    """Utility. Private. Null until the run has finished."""
    metrics: tuple[Metric, ...]
    """Metrics in the order of display; the first is the page's headline. Public."""
    attack: Attack | None = None
    """Membership attack. Private. Null where none was made."""
    groups: tuple[Group, ...] | None = None
    """Figures of groups of people or of rows. Private. Null where none were asked for."""
    timing: Timing | None = None
    """Where a step's time goes. Private. Null where it was not measured."""
    clipping: Clipping | None = None
    """Gradient norms over the steps. Private. Null where they were not kept."""
    learning: Arms[ArmLearning] | None = None
    """Losses over the steps. Private. Null where they were not kept."""
    ledger: Ledger | None = None
    """What the ledger charged. Public. Null where none was kept."""
    notes: tuple[str, ...]
    """Limits and assumptions, a sentence each. Public."""
    versions: dict[str, str]
    """What the figures were computed with and on. Public."""

    @property
    def audited(self) -> Bound | None:
        """The audited lower bound of epsilon of the private arm."""
        return self.attack.arms.private.epsilon_lower_bound if self.attack else None
