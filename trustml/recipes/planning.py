"""A privacy plan from a budget: by hand or by rules, for one run or for a search over settings."""

from pathlib import Path
from typing import Any, NamedTuple

from trustml.plan import (
    AutoPlan,
    PrivacyPlan,
    Trials,
    auto_plan,
    calibrate_search,
    search_cost,
)
from trustml.plan.search import SearchCost
from trustml.recipes.selection_price import SelectionPrice, price_selections, read_activity
from trustml.recipes.settings import Settings, knob, settings
from trustml.recipes.waiting import waiting
from trustml.strict_json import finite

_RULES, _SEARCH = "by rules", "search"
_FOLLOWS = ("batch", "steps", "noise_multiplier")  # from the rules
_RULES_ALONE = ("epochs", "parameters", "tokens_per_unit")
_OF_RULES = {"sampling": "poisson", "adjacency": "add-or-remove-one"}
_PARTS = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the run, after which epsilon is shown


@settings
class PlanConfig(Settings):
    """The budget and the numbers of a plan. All are public.

    >>> PlanConfig(num_units=1_000, batch=100, steps=10, epsilon=3.0).sampling
    'poisson'
    """

    num_units: int | None = knob(None, "units in the data", least=1)
    batch: int | None = knob(None, "units per step on average", least=1)
    steps: int | None = knob(None, "steps of the run", least=1)
    delta: float = knob(1e-5, "budget")
    epsilon: float | None = knob(None, "budget to stay within")
    noise_multiplier: float | None = knob(None, "noise, instead of a budget")
    clip_norm: float | None = knob(
        None, "bound of one unit's gradient", shown="1; with --auto, automatic clipping"
    )
    sampling: str = knob("poisson", "poisson, truncated_poisson or fixed")
    adjacency: str = knob("add-or-remove-one", "add-or-remove-one or replace-one")
    accountant: str = knob("pld", "pld or rdp")
    unit: str = knob("example", "what one unit is: utterance, user, ...")

    activity: Path | None = knob(
        None,
        "file with the activity of each client, such as its rows, one a line: adds what drawing "
        "clients by it would cost",
        metavar="FILE",
    )

    auto: bool = knob(False, "choose batch, steps and the rest by rules", _RULES)
    epochs: float | None = knob(
        None, "compute: units processed over units there are", _RULES, shown="20"
    )
    parameters: int | None = knob(None, "trained values, at most", _RULES, least=1)
    tokens_per_unit: float | None = knob(
        None, "tokens of one unit, to judge the size of a language model", _RULES
    )
    pretrained: bool = knob(False, "weights start from a pretrained model", _RULES)
    features: bool = knob(False, "a linear head on frozen features is trained", _RULES)

    search: float | None = knob(
        None,
        "trials on average of a private search that keeps the budget; how many is secret",
        _SEARCH,
        metavar="MEAN",
    )
    search_shape: float | None = knob(
        None,
        "law of the number of trials: 1 geometric, 0 logarithmic, inf Poisson",
        _SEARCH,
        shown="1",
        metavar="ETA",
    )

    def __post_init__(self):
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise ValueError("`--noise-multiplier` cannot go with `--epsilon`: give one of them.")


class Search(NamedTuple):
    """A private search over settings, of which one trial follows the plan."""

    trials: Trials
    cost: SearchCost


class Planned(NamedTuple):
    """A plan and what it promises."""

    plan: PrivacyPlan  # of one trial, where there is a search
    delta: float
    accounted_by: str
    epsilon_by_steps: dict[int, float]  # after parts of the run; the last is the whole run
    auto: AutoPlan | None
    search: Search | None
    selections: tuple[SelectionPrice, ...] | None = None  # where activity was given

    @property
    def epsilon(self) -> float:
        """Epsilon of the whole run."""
        return self.epsilon_by_steps[self.plan.steps]

    def statement(self) -> str:
        """What the plan promises, in words."""
        return self.plan.statement(self.delta)

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml plan --json` prints; what is infinite is None."""
        by_steps = {str(steps): value for steps, value in self.epsilon_by_steps.items()}
        document = {
            "plan": self.plan.to_dict(),
            "delta": self.delta,
            "epsilon": finite(self.epsilon),
            "accounted_by": self.accounted_by,
            "epsilon_by_steps": finite(by_steps),
            "statement": self.statement(),
        }
        if self.auto is not None:
            document["auto"] = _auto_to_dict(self.auto)
        if self.search is not None:
            document["search"] = finite(self.search.cost._asdict())
        if self.selections is not None:
            document["selections"] = finite([one.to_dict() for one in self.selections])
        return document


def plan(config: PlanConfig) -> Planned:
    """The plan that a budget buys, and epsilon on the way to its last step.

    >>> planned = plan(
    ...     PlanConfig(num_units=1_000, batch=100, steps=10, noise_multiplier=4.0, accountant="rdp")
    ... )
    >>> planned.plan.sample_rate, list(planned.epsilon_by_steps)
    (0.1, [1, 2, 5, 8, 10])

    Args:
      config: The budget and the size of the run.

    Guarantee:
      With `epsilon` given, the plan stays within (epsilon, delta): the run itself, or with `search`
      the whole search.

    Raises:
      ValueError: A number is missing, out of range or contradicts another; or no noise meets the
        budget.
    """
    with waiting("plan: accounting, which takes some seconds for a large plan"):
        auto = _by_rules(config) if config.auto else None
        made = _by_hand(config) if auto is None else auto.plan
        trials = _trials(config)
        search = None
        if trials is not None:
            made, search = _search(config, made, trials)
        method = made.accounted_by(config.delta)
        by_steps = _epsilon_by_steps(made, config.delta, method)
        selections = _selections(config, made)
    return Planned(made, config.delta, method, by_steps, auto, search, selections)


def _selections(config: PlanConfig, made: PrivacyPlan) -> tuple[SelectionPrice, ...] | None:
    if config.activity is None:
        return None
    activity = read_activity(config.activity)
    if len(activity) != made.num_units:
        raise ValueError(
            f"`--activity` must hold a number for each of the {made.num_units} units, got "
            f"{len(activity)} in {config.activity}."
        )
    return price_selections(made, activity, config.delta)


def _search(config: PlanConfig, made: PrivacyPlan, trials: Trials) -> tuple[PrivacyPlan, Search]:
    """The plan of one trial, with the noise that the search needs, and what the search costs."""
    delta, epsilon = config.delta, config.epsilon
    if epsilon is not None:
        made = calibrate_search(made, epsilon=epsilon, delta=delta, trials=trials)
    return made, Search(trials, search_cost(made, delta=delta, trials=trials))


def _epsilon_by_steps(made: PrivacyPlan, delta: float, method: str) -> dict[int, float]:
    marks = sorted({max(1, round(made.steps * part)) for part in _PARTS})
    large = method != made.accountant.upper()  # then what is shown on the way is coarser still
    return {
        steps: made.epsilon(delta, steps=steps, coarse=large and steps < made.steps)
        for steps in marks
    }


def _by_rules(config: PlanConfig) -> AutoPlan:
    for name in _FOLLOWS:
        if getattr(config, name) is not None:
            raise ValueError(f"`{_flag(name)}` cannot go with `--auto`: it follows.")
    for name, only in _OF_RULES.items():
        if getattr(config, name) != only:
            raise ValueError(
                f"`{_flag(name)}` must be {only} with `--auto`, whose rules are for that, got "
                f"{getattr(config, name)}."
            )
    if config.num_units is None or config.epsilon is None:
        missing = "num_units" if config.num_units is None else "epsilon"
        raise ValueError(f"`{_flag(missing)}` must be given with `--auto`, got none.")
    return auto_plan(
        config.num_units,
        config.epsilon,
        config.delta,
        epochs=20.0 if config.epochs is None else config.epochs,
        parameters=config.parameters,
        tokens_per_unit=config.tokens_per_unit,
        pretrained=config.pretrained,
        features=config.features,
        clip_norm=config.clip_norm,
        unit=config.unit,
    )


def _by_hand(config: PlanConfig) -> PrivacyPlan:
    for name in _RULES_ALONE:
        if getattr(config, name) is not None:
            raise ValueError(f"`{_flag(name)}` needs `--auto`.")
    for name in ("num_units", "batch", "steps"):
        if getattr(config, name) is None:
            raise ValueError(f"`{_flag(name)}` must be given to make a plan, got none.")
    common: dict[str, Any] = {
        "steps": config.steps,
        "clip_norm": 1.0 if config.clip_norm is None else config.clip_norm,
        "expected_batch": config.batch,
        "num_units": config.num_units,
        "sampling": config.sampling,
        "adjacency": config.adjacency,
        "accountant": config.accountant,
        "unit": config.unit,
    }
    if config.epsilon is not None:
        return PrivacyPlan.calibrate(epsilon=config.epsilon, delta=config.delta, **common)
    if config.noise_multiplier is None:
        raise ValueError("`--epsilon` or `--noise-multiplier` must be given, got neither.")
    if common["expected_batch"] > common["num_units"]:
        raise ValueError(
            f"`--batch` must be at most `--num-units` ({config.num_units}), got {config.batch}."
        )
    rate = common["expected_batch"] / common["num_units"]
    return PrivacyPlan(noise_multiplier=config.noise_multiplier, sample_rate=rate, **common)


def _trials(config: PlanConfig) -> Trials | None:
    if config.search is None:
        if config.search_shape is not None:
            raise ValueError(f"`--search-shape` {config.search_shape:g} needs `--search`.")
        return None
    return Trials(config.search, 1.0 if config.search_shape is None else config.search_shape)


def _auto_to_dict(auto: AutoPlan) -> dict[str, Any]:
    return {
        "learning_rate": auto.learning_rate,
        "optimizer": auto.optimizer,
        "reasons": list(auto.reasons),
        "choices": [choice._asdict() for choice in auto.choices],
    }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
