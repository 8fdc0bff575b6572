"""The trust report of one run: its claim of privacy, its utility, what attacks find.

A null is an infinity, which JSON does not have, or a value that is not available. `schema.json` is
generated from these classes.
"""

import dataclasses
from typing import Annotated, Literal

from trustml.report.claim import Ledger, Plan, Privacy
from trustml.report.federated import Federated
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
    "results, attack, groups, timing, clipping, learning, federated: computed on people's rows "
    "without noise"
)
Status = Literal["complete", "stopped early", "budget spent", "unfinished"]


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
class Description(Documented):
    """What is known of a run before it begins; `resolved.yaml` keeps it."""

    delta: Share
    """For every epsilon."""
    budget_epsilon: Positive | None
    """Epsilon that the run may not exceed."""
    plan: Plan | None
    """The privacy plan; null where a federated run has none."""
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
    plan: Plan | None
    """The privacy plan, every field. Public. Null where a federated run has none."""
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
    federated: Annotated[Federated | None, left_out_if_none()] = None
    """Clients, costs and both models of a federated run. Private. Absent of other runs."""
    ledger: Ledger | None = None
    """What the ledger charged. Public. Null where none was kept."""
    notes: tuple[str, ...]
    """Limits and assumptions, a sentence each. Public."""
    interruptions: Annotated[tuple[str, ...] | None, left_out_if_none()] = None
    """What resumed trainings have to say, a sentence each. Public. Left out where none was."""
    versions: dict[str, str]
    """What the figures were computed with and on. Public."""

    @property
    def audited(self) -> Bound | None:
        """The audited lower bound of epsilon of the private arm."""
        return self.attack.arms.private.epsilon_lower_bound if self.attack else None
