"""Refuses settings of a federated run that contradict each other, before any data are read."""

import dataclasses
import math

from trustml.federated.selection import Selection, parse_selection
from trustml.recipes.federate.algorithms import OWN_SETTINGS, Kind, find_algorithm
from trustml.recipes.federate.config import CONTINUAL, STATIC, FederateConfig
from trustml.recipes.federate.stages import AVAILABILITY

RATES = ("client_rate", "server_rate")
_PLAIN = FederateConfig.from_dict({}, "the defaults").to_dict()


def check_settings(config: FederateConfig) -> tuple[Kind, Selection]:
    """The algorithm and the selection.

    Raises:
      ValueError: The settings contradict each other, whatever the data are.
    """
    kind = find_algorithm(config.algorithm)
    selection = dataclasses.replace(
        parse_selection(config.selection),
        replacement=config.replacement,
        unbiased=config.unbiased,
    )
    if config.setting not in (STATIC, CONTINUAL):
        raise ValueError(f"`--setting` must be {STATIC} or {CONTINUAL}, got {config.setting!r}.")
    for name in RATES:
        value = getattr(config, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"`--{_dashed(name)}` must be positive, got {value!r}.")
    _check_read(config)
    _check_draws(config, kind)
    _check_availability(config, kind)
    _check_privacy(config, kind)
    return kind, selection


def _check_read(config: FederateConfig) -> None:
    """Refuses settings of other algorithms, which nothing would read."""
    for algorithm, name in OWN_SETTINGS.items():
        if getattr(config, name) != _PLAIN[name] and config.algorithm != algorithm:
            raise ValueError(f"`--{name}` needs `--algorithm` {algorithm}, got {config.algorithm}.")


def _check_draws(config: FederateConfig, kind: Kind) -> None:
    """Refuses draws that the algorithm's mean does not follow, and rounds too small for it."""
    for name in ("replacement", "unbiased"):
        if getattr(config, name) and not kind.private:
            raise ValueError(
                f"`--{name}` must go with an algorithm whose clients send the change of the "
                f"parameters alone, such as fedavg or fedadam, got {config.algorithm}."
            )
    needed = 2 * config.wrong + 3
    if config.algorithm == "krum" and config.clients_per_round < needed:
        raise ValueError(
            f"`--clients-per-round` must be at least {needed} where `--wrong` is {config.wrong}, "
            f"got {config.clients_per_round}."
        )


def _check_privacy(config: FederateConfig, kind: Kind) -> None:
    """Refuses what no plan covers."""
    if config.epsilon is None:
        for name in ("delta", "clip_norm"):
            if getattr(config, name) is not None:
                raise ValueError(f"`--{_dashed(name)}` needs `--epsilon`.")
        return
    if not kind.private:
        raise ValueError(
            f"`--algorithm` must be one whose clients send the change of the parameters alone "
            f"with `--epsilon`, such as fedavg or fedadam, got {config.algorithm}."
        )
    if config.setting != STATIC or config.periods is not None:
        raise ValueError(
            "`--setting` must be static and `--periods` left out with `--epsilon`: each period "
            "would take a budget of its own."
        )
    for name in ("replacement", "unbiased"):
        if getattr(config, name):
            raise ValueError(f"`--{name}` cannot go with `--epsilon`, whose draws are Poisson's.")
    if config.selection != "uniform" and not config.public_activity:
        raise ValueError(
            f"`--selection` must be uniform with `--epsilon`, got {config.selection}: who takes "
            "part would show how much each client holds. If that is public, add "
            "`--public-activity`; the price is claimed at the most active client."
        )


def _check_availability(config: FederateConfig, kind: Kind) -> None:
    """Refuses devices' hours where the algorithm or a plan has no place for them."""
    changed = [name for name in AVAILABILITY if getattr(config, name) != _PLAIN[name]]
    if config.epsilon is not None and changed:
        raise ValueError(
            f"`--{_dashed(changed[0])}` cannot go with `--epsilon`: the plan's sampling is that of "
            "clients who all answer."
        )
    if config.unbiased and changed:
        raise ValueError(
            f"`--{_dashed(changed[0])}` cannot go with `--unbiased`: those who answer are no "
            "sample with known probabilities."
        )
    others = [name for name in changed if name not in ("dropout", "speed")]
    if kind.asynchronous and others:
        raise ValueError(
            f"`--{_dashed(others[0])}` cannot go with `--algorithm` {config.algorithm}, which "
            "waits for nobody: `--dropout`, `--speed` and `--concurrency` are for it."
        )
    if config.concurrency is not None and not kind.asynchronous:
        raise ValueError("`--concurrency` needs `--algorithm` fedbuff.")


def _dashed(name: str) -> str:
    return name.replace("_", "-")
