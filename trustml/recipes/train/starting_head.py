"""The head that fine-tuning starts from: that of an earlier private run, whose cost counts."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from trustml.formatting import round_up
from trustml.models.finetuning import HEAD
from trustml.models.tasks import Task
from trustml.models.tasks.task import FEATURES, FINETUNED
from trustml.plan import Charge, PrivacyPlan
from trustml.recipes.composition import compose
from trustml.recipes.train.config import TrainConfig
from trustml.training.runs.folder import RunFolder

_SAME = ("task", "labels", "value_range", "encoder_sha256", "random_weights", "layers")
_HOW = "the head that training starts from, of an earlier private run on features"


class StartingHead(NamedTuple):
    """Private weights of a head, and what they cost."""

    head: dict[str, Any]
    charge: Charge


def starting_head(
    config: TrainConfig, task: Task, *, epsilon: float, delta: float, unit: str
) -> StartingHead:
    """The head of the run that `config` starts from; half of `delta` is left for the training.

    Args:
      config: The settings.
      task: Of the network that starts from it.
      epsilon: Budget of the whole.
      delta: Budget of the whole.
      unit: The privacy unit of the training.

    Guarantee:
      The charge is an upper bound for all that the earlier run released, every repeat of it
      included. Both promises are about one unit and one adjacency, so they add up.

    Raises:
      ValueError: The run has not ended, has another network or another promise, or costs too much.
    """
    from trustml.recipes.finished import finished_run  # it reads what a run of `train` wrote

    assert config.start is not None
    if RunFolder(Path(config.start)).partition.exists():
        raise ValueError(
            f"`--start` must be a run of `trustml train`, got {config.start} of `trustml federate`."
        )
    earlier = finished_run(Path(config.start))
    _check_network(config.start, earlier.network, task.config)
    plan = PrivacyPlan.from_dict(earlier.resolved["report"]["plan"])
    _check_promise(config, plan, unit, earlier.resolved["settings"])
    cost = sum(total.epsilon for total in compose([Path(config.start)], delta / 2))
    if not cost < epsilon:
        raise ValueError(
            f"`--epsilon` must be above {round_up(cost)}, what the run of `--start` takes of it at "
            f"half of delta, got {epsilon}. Give that run less, or this one more."
        )
    head = earlier.weights({HEAD: jax.eval_shape(task.network.init, jax.random.key(0))[HEAD]})[HEAD]
    return StartingHead(head, Charge(HEAD, cost, delta / 2, _HOW))


def _check_network(run: str, earlier: dict[str, Any], network: dict[str, Any]) -> None:
    if network["architectures"] != [FINETUNED]:
        raise ValueError(
            f"`--start` must go with `--trainable` lora, bitfit, all or last-K of an encoder, got "
            f"{run} for another network."
        )
    names = ("architectures", *_SAME)
    wanted = {**network, "architectures": [FEATURES]}
    other = [name for name in names if earlier.get(name) != wanted.get(name)]
    if other:
        raise ValueError(
            "`--start` must be a run of `--trainable` features on the same classes and encoder, "
            f"got {run} with other {other[0]}."
        )


def _check_promise(config: TrainConfig, plan: PrivacyPlan, unit: str, settings) -> None:
    for name, ours, theirs in (
        ("unit", unit, plan.unit),
        ("adjacency", config.adjacency, plan.adjacency),
    ):
        if ours != theirs:
            raise ValueError(
                f"`--start` must be a run with the {name} of this one, {ours}, got {theirs}: the "
                "two promises would not add up."
            )
    if config.seed is None and settings["seed"] is not None:
        raise ValueError(
            f"`--start` must be a run without `--seed`, got one with {settings['seed']}: who "
            "guesses it knows its noise, and this run would not say so. Give this one a `--seed` "
            "too, or make the head without."
        )
    if config.seed is not None and settings["seed"] is not None:
        taken = range(settings["seed"], settings["seed"] + settings["repeats"])
        if not set(taken).isdisjoint(range(config.seed, config.seed + config.repeats)):
            raise ValueError(
                f"`--seed` must not be one of the run of `--start`, got {config.seed}: the noise "
                "of both would be the same."
            )
