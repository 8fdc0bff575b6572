"""What a report holds of a federated run; every figure here is private."""

import dataclasses
from typing import Annotated

from trustml.report.measured import (
    Count,
    Documented,
    Estimate,
    Estimates,
    Number,
    Positive,
    Scores,
    left_out_if_none,
)


@dataclasses.dataclass(frozen=True)
class OverClients(Documented):
    """One model's headline metric on rows that each client kept aside. Private.

    A client's own figure rests on few rows, so part of the spread is chance.
    """

    mean: Estimate
    """Mean over clients, each of which counts alike."""
    deviation: Positive
    """Standard deviation over clients."""
    worst_tenth: Number
    """Mean over the tenth of the clients that fare worst."""
    values: tuple[Number, ...]
    """Of each client that was measured, worst first."""


@dataclasses.dataclass(frozen=True)
class FederatedModel(Documented):
    """One model of a federated report. Private."""

    metrics: Estimates
    """Estimates by the name of the metric, on the evaluated part."""
    clients: OverClients | None
    """Over clients; null where no client had rows to keep aside."""
    examples: Count
    """Examples that it was trained on, each as often as it was."""
    train_seconds: Positive
    """Time of the training here, compiling included."""


@dataclasses.dataclass(frozen=True)
class Costs(Documented):
    """What the rounds cost. Private."""

    rounds: Count
    """Rounds that were carried out."""
    answers: Count
    """Updates that counted, in all rounds."""
    lost: Count
    """Clients that were chosen and whose update did not count."""
    examples: Count
    """Examples that those who answered went through."""
    bytes_up: Count
    """From clients: four bytes for each number that an answer holds."""
    bytes_down: Count
    """To clients that were chosen: the trained parameters, and what the algorithm adds."""
    virtual_seconds: Positive | None = None
    """Time of the simulated devices, in local steps of the median device; null where nobody
    waited for anybody."""


@dataclasses.dataclass(frozen=True)
class FederatedCurve(Documented):
    """A training along the way: one entry an evaluation. Private."""

    rounds: tuple[Count, ...]
    """Rounds done; of central training, steps."""
    examples: tuple[Count, ...]
    """Examples processed until then."""
    bytes: tuple[Count, ...]
    """Bytes up and down until then; 0 of central training."""
    scores: tuple[Scores, ...]
    """Scores by name, on rows of the part for choices."""


@dataclasses.dataclass(frozen=True)
class Period(Documented):
    """One period of time. Private."""

    clients: Count
    """Clients that held rows."""
    held: Count
    """Examples that they held."""
    deleted: Count
    """Rows that they held in the period before and hold no more."""
    examples: Count
    """Examples processed."""
    next: Estimate | None
    """The headline metric at the end of the period, on the rows of the next one."""


@dataclasses.dataclass(frozen=True)
class Federated(Documented):
    """A federated run: who took part, what it cost, and how the model serves the clients."""

    algorithm: str
    """Name of the algorithm."""
    settings: Scores
    """Rates, batch size and passes of the clients, and what else was chosen. Public."""
    selection: str
    """How likely a client is drawn, by its activity."""
    partition: str
    """How rows became clients; "natural" where the data say whose they are."""
    client: str
    """What one client is."""
    headline: str
    """Name of the metric that curves and clients are shown by."""
    sizes: tuple[Count, ...]
    """Examples that each client trains on, largest first."""
    trained_values: Count
    """Trained parameters."""
    labels: tuple[str, ...]
    """Labels of rows; none where rows have none, or where the table would be large."""
    rows_by_label: tuple[tuple[Count, ...], ...]
    """Rows of each client by label, in the order of `labels`."""
    costs: Costs
    """What the rounds cost."""
    model: FederatedModel
    """The model that the clients trained together."""
    curve: FederatedCurve
    """Its training."""
    periods: Annotated[tuple[Period, ...] | None, left_out_if_none()] = None
    """Periods of time, each judged on the next; absent where all rows were there from the start."""
    central: Annotated[FederatedModel | None, left_out_if_none()] = None
    """The same network trained on the pooled rows; absent where it was not asked for."""
    central_curve: Annotated[FederatedCurve | None, left_out_if_none()] = None
    """Its training."""
