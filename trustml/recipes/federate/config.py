"""The settings of `trustml federate`."""

from typing import Any

from trustml.recipes.federate.algorithms import ALGORITHMS
from trustml.recipes.settings import Settings, knob, knob_of, names_of, settings
from trustml.recipes.train.config import TrainConfig
from trustml.training.checks import AUTO

_CLIENTS, _ROUNDS, _TRAINING, _AVAILABILITY, _PRIVACY, _RUN = (
    "clients",
    "rounds",
    "training",
    "availability",
    "privacy",
    "run",
)
_TIME = "time"
STATIC, CONTINUAL = "static", "continual"


@settings
class FederateConfig(Settings):
    """What to train across which clients; None takes the value of the preset.

    >>> config = FederateConfig(data="hwu64", partition="label:alpha=0.5", clients=100)
    >>> config.algorithm, config.rounds
    ('fedavg', 60)
    """

    task: str | None = knob_of(TrainConfig, "task")
    data: str | None = knob_of(TrainConfig, "data")
    text: str | None = knob_of(TrainConfig, "text")
    label: str | None = knob_of(TrainConfig, "label")
    labels: tuple[str, ...] | None = knob_of(TrainConfig, "labels")
    value_range: tuple[float, ...] | None = knob_of(TrainConfig, "value_range")
    schema: str | None = knob_of(TrainConfig, "schema")
    skip_bad_rows: bool = knob_of(TrainConfig, "skip_bad_rows")
    data_dir: str | None = knob_of(TrainConfig, "data_dir")
    download: bool = knob_of(TrainConfig, "download")
    eval_split: str | float = knob_of(TrainConfig, "eval_split")

    unit: str | None = knob(
        None,
        "whose the rows are, which makes the clients: a column of your own file",
        _CLIENTS,
        shown="what the data say",
        metavar="COLUMN",
    )
    partition: str | None = knob(
        None,
        "natural, by whose the rows are; artificial clients: iid, label:alpha=0.1, "
        "quantity:beta=5, shards:per_client=2, cluster:clusters=10; or a run's partition.json",
        _CLIENTS,
        shown="natural, where the data say whose the rows are",
    )
    clients: int | None = knob(None, "number of artificial clients", _CLIENTS, least=1)
    held_out: float = knob(
        0.1,
        "part of each client's rows that nobody trains on, to measure each client by itself",
        _CLIENTS,
        least=0,
    )

    preset: str | None = knob_of(TrainConfig, "preset")
    model: str | None = knob_of(TrainConfig, "model")
    trainable: str | None = knob_of(TrainConfig, "trainable")
    max_length: int | None = knob_of(TrainConfig, "max_length")
    pretrain: bool | None = knob_of(TrainConfig, "pretrain")
    feature_cache: str | None = knob_of(TrainConfig, "feature_cache")

    rounds: int = knob(60, "rounds", _ROUNDS, least=1)
    clients_per_round: int = knob(20, "clients of a round, on average", _ROUNDS, least=1)
    algorithm: str = knob("fedavg", ", ".join(ALGORITHMS), _ROUNDS)
    selection: str = knob(
        "uniform",
        "by activity, the number of a client's rows: uniform, log, power:0.5, proportional, top:20",
        _ROUNDS,
    )
    replacement: bool = knob(False, "let a client be drawn twice for a round", _ROUNDS)
    unbiased: bool = knob(
        False, "weight answers so that their mean is that of all rows, whoever is drawn", _ROUNDS
    )

    setting: str = knob(
        STATIC,
        f"{STATIC}, or {CONTINUAL}: period after period, devices delete old rows, and each period "
        "is judged on the next",
        _TIME,
    )
    periods: int | None = knob(
        None,
        "equal parts of each client's rows in their order; the last is for judging alone",
        _TIME,
        least=2,
        shown="no time; 5 of continual",
    )
    buffer: int = knob(0, "rows of earlier periods that a device keeps", _TIME, least=0)

    batch_size: int | None = knob(None, "rows of a local step", _TRAINING, least=1)
    local_epochs: int = knob(1, "passes over a client's rows in a round", _TRAINING, least=1)
    client_rate: float | None = knob(None, "learning rate of the clients' SGD", _TRAINING)
    server_rate: float | None = knob(
        None, "learning rate of the server", _TRAINING, shown="that of the algorithm"
    )
    momentum: float = knob(0.9, "momentum of mimelite", _TRAINING)
    proximal: float = knob(0.01, "pull of fedprox to the round's start, mu", _TRAINING)
    fairness: float = knob(1.0, "q of qfedavg: 0 is fedavg", _TRAINING)
    trim: float = knob(0.1, "part that trimmed_mean leaves out at each end", _TRAINING)
    wrong: int = knob(2, "clients that may be wrong, for krum", _TRAINING, least=0)
    evaluate_every: int | None = knob(
        None, "rounds between evaluations", _TRAINING, least=1, shown="a tenth of all"
    )
    baseline: bool = knob(
        True, "train centrally on the pooled rows too, with as many row visits", _TRAINING
    )
    baseline_learning_rate: float | None = knob_of(TrainConfig, "baseline_learning_rate")

    offline: float = knob(0.0, "part of the day that a device cannot be reached", _AVAILABILITY)
    dropout: float = knob(0.0, "probability that a chosen device answers nothing", _AVAILABILITY)
    speed: float | None = knob(
        None,
        "spread of devices' speed, the deviation of its logarithm",
        _AVAILABILITY,
        shown="0; 0.5 of fedbuff",
    )
    deadline: float | None = knob(
        None,
        "end of a round, in times that the median device takes for a median client",
        _AVAILABILITY,
        shown="waits for all",
    )
    over_select: float = knob(
        1.0, "devices that are asked over answers that a round waits for", _AVAILABILITY
    )
    concurrency: int | None = knob(
        None,
        "devices at work at a time, of fedbuff",
        _AVAILABILITY,
        least=1,
        shown="twice --clients-per-round",
    )

    epsilon: float | None = knob(
        None,
        "privacy budget of one client with all its rows; Poisson client sampling, bounded and "
        "noisy updates",
        _PRIVACY,
        shown="no privacy",
    )
    delta: float | None = knob(None, "privacy budget", _PRIVACY, shown="1e-5")
    clip_norm: float | None = knob(None, "largest l2 norm of a client's update", _PRIVACY)
    public_activity: bool = knob(
        False,
        "take it that how much each client holds is public, as --selection needs with --epsilon",
        _PRIVACY,
    )
    seed: int | None = knob(
        None,
        "makes the run repeatable; with --epsilon it voids the guarantee against whoever guesses "
        "it",
        _RUN,
        least=0,
    )

    clients_at_once: int | str = knob(
        AUTO,
        "clients computed side by side; auto measures, so that two runs of one seed agree up to "
        "rounding alone",
        _RUN,
        least=1,
        metavar="N",
    )
    checkpoint_every: float = knob_of(TrainConfig, "checkpoint_every")
    save_baseline: bool = knob_of(TrainConfig, "save_baseline")

    def training(self) -> TrainConfig:
        """The settings that `trustml train` shares, with which data and model are read."""
        shared = {name: value for name, value in vars(self).items() if name in _SHARED}
        return TrainConfig(**shared)


_SHARED = frozenset(names_of(FederateConfig)) & frozenset(names_of(TrainConfig))


def check_changes(changes: dict[str, Any]) -> None:
    """Refuses changes of settings that a resumed run must keep.

    >>> check_changes({"data_dir": "data"})

    Raises:
      ValueError: One of them is not declared with `on_resume`.
    """
    fixed = [name for name in changes if name not in names_of(FederateConfig, on_resume=True)]
    if fixed:
        raise ValueError(
            f"`--{fixed[0].replace('_', '-')}` cannot go with `--resume`, which takes the settings "
            "of the run. Start a new run to change them."
        )
