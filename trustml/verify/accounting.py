"""Are epsilons, deltas and multipliers those that others published for the same mechanisms?"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from trustml.accounting import Accounting, SampledGaussian
from trustml.noise import tail_delta
from trustml.plan import PrivacyPlan
from trustml.sampling import overflow_probability

_ADD, _REPLACE = "add-or-remove-one", "replace-one"

_RULES = {
    "equal to 5 digits": lambda ours, published: abs(ours / published - 1) <= 1e-5,
    "equal within 0.001": lambda ours, published: abs(ours - published) <= 1e-3,
    "equal when rounded": lambda ours, published: abs(ours - published) <= 0.005,
    "below by 0.011 at most": lambda ours, published: published - 0.011 < ours <= published,
    "at least": lambda ours, published: ours >= published,
    "at most": lambda ours, published: ours <= published,
    "planted error: too small": lambda ours, published: ours < published,
}


class Published(NamedTuple):
    """A published value, or that of a closed form, and ours."""

    check: str
    published: float
    ours: float
    rule: str  # how `ours` must stand to `published`
    source: str

    @property
    def holds(self) -> bool:
        """Whether the two stand to each other as the rule says; never where one is NaN."""
        return bool(_RULES[self.rule](self.ours, self.published))


_OPACUS_PRV = "Opacus, prv_accountant msr_values (0.01 of error added)"
_TF_PRIVACY = "TensorFlow Privacy, compute_dp_sgd_privacy_test"
_JAX_PRIVACY = "jax_privacy, accounting doctests"
_DP_ACCOUNTING = "dp_accounting, accountant tests"
_BALLE_WANG = "Balle, Wang 2018, Theorem 8"

# Accountant, noise multiplier, sample rate, steps, delta, published epsilon, rule, source.
_EPSILONS = [
    ("pld", 3.0, 0.1, 512, 1e-6, 3.7697, "equal within 0.001", _JAX_PRIVACY),
    ("rdp", 1.5, 0.04, 2250, 1e-5, 7.32911117143, "equal within 0.001", "Opacus, accountants_test"),
    ("rdp", 1.3, 150 / 60_000, 6000, 1e-5, 0.7242234026, "equal to 5 digits", _TF_PRIVACY),
    ("rdp", 0.7, 0.01, 120, 1e-5, 3.2392676, "equal to 5 digits", _TF_PRIVACY),
    ("pld", 0.7, 0.01, 120, 1e-5, 2.4612381, "equal to 5 digits", _TF_PRIVACY),
    ("pld", 1.5, 0.001, 100, 1e-6, 0.03937, "below by 0.011 at most", _OPACUS_PRV),
    ("pld", 1.5, 0.001, 20_000, 1e-6, 0.43701, "below by 0.011 at most", _OPACUS_PRV),
    ("pld", 1.5, 0.05, 1000, 1e-6, 6.20997, "below by 0.011 at most", _OPACUS_PRV),
    ("pld", 3.0, 0.05, 1000, 1e-6, 2.52757, "below by 0.011 at most", _OPACUS_PRV),
    ("pld", 3.0, 0.05, 20_000, 1e-6, 13.96111, "below by 0.011 at most", _OPACUS_PRV),
    ("pld", 2.0, 0.2, 100, 1e-6, 5.67206, "below by 0.011 at most", _OPACUS_PRV),
]


def accounting_checks() -> Iterator[Published]:
    """Yields every published value with ours; about ten seconds."""
    yield from _epsilons()
    yield from _inverses()
    yield from _conventions()
    yield from _statement()


def _epsilons():
    for accountant, noise, rate, steps, delta, published, rule, source in _EPSILONS:
        ours = Accounting(_ADD, accountant).epsilon([(_poisson(noise, rate), steps)], delta=delta)
        name = f"epsilon: sigma {noise:g}, q {rate:g}, T {steps}, delta {delta}, {accountant}"
        yield Published(name, published, ours, rule, source)


def _inverses():
    """Calibration, steps and deltas: the same curve read the other ways."""
    accounting = Accounting()
    run = functools.partial(_run, 0.1, 512)
    found = accounting.noise_multiplier(run, epsilon=1.0, delta=1e-6)
    yield Published("noise for epsilon 1", 9.66, found, "equal when rounded", _JAX_PRIVACY)
    spent = accounting.epsilon(run(found), delta=1e-6)
    yield Published("epsilon of that noise", 1.0, spent, "at most", "the budget itself")
    steps = accounting.steps_within(
        lambda count: _run(0.1, count, 3.0), epsilon=2.0, delta=1e-6, limit=400
    )
    yield Published("steps for epsilon 2", 155, steps, "equal when rounded", _JAX_PRIVACY)
    delta = accounting.delta(_run(1.0, 1, 1.0), epsilon=1.0)
    yield Published("delta of mu 1", 0.126936, delta, "equal to 5 digits", _DP_ACCOUNTING)
    delta = accounting.delta(_run(0.2, 3, 0.5), epsilon=1.0)
    yield Published("delta of 3 steps", 0.15594, delta, "equal within 0.001", _DP_ACCOUNTING)


def _conventions():
    """Replacing a unit moves a sum by 2C: each accountant must be told so exactly once."""
    rule = "equal to 5 digits"
    add = Accounting(_ADD).epsilon(_run(1.0, 2, 0.7), delta=1e-5)
    yield Published("full batch, add or remove, pld", 10.1224946, add, rule, _TF_PRIVACY)
    replace = Accounting(_REPLACE).epsilon(_run(1.0, 2, 0.7), delta=1e-5)
    source = f"{_TF_PRIVACY}, micro-batches: sensitivity 2C"
    yield Published("full batch, replace, pld", 24.7160779, replace, rule, source)
    fixed = Accounting(_REPLACE, "rdp")
    ours = fixed.epsilon([(_fixed(0.7), 2)], delta=1e-5)
    yield Published("fixed full batch, replace, rdp", 26.2880374, ours, rule, source)
    # The whole data in each of four batches: mu = 2 sqrt(4) / sigma, known in closed form.
    exact = _gaussian_epsilon(4.0, 1e-6)
    ours = fixed.epsilon([(_fixed(1.0), 4)], delta=1e-6)
    yield Published("fixed batches bound the exact epsilon", exact, ours, "at least", _BALLE_WANG)
    wrong = fixed.epsilon([(_fixed(2.0), 4)], delta=1e-6)
    planted = "planted error: too small"
    yield Published("the same, told std / C for std / 2C", exact, wrong, planted, _BALLE_WANG)


def _statement():
    """A plan's overflow and noise tails are inside the delta that it states."""
    # A capacity so tight that overflow takes a visible part of delta.
    plan = PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=3.0,
        sample_rate=0.1,
        steps=512,
        expected_batch=100,
        capacity=169,
    )
    epsilon = plan.epsilon(1e-6)
    overflow = 512 * overflow_probability(1001, 0.1, 169)
    ideal = Accounting().delta(_run(0.1, 512, 3.0), epsilon=epsilon)
    tails = tail_delta(epsilon, steps=512, dimension=plan.dimension)
    # The last digits of a root found numerically.
    whole = (ideal + (1 + math.exp(epsilon)) * overflow + tails) * (1 - 1e-6)
    source = "(1 + e^epsilon) times the total variation distance"
    yield Published("delta with overflow and tails", 1e-6, whole, "at most", source)
    planted = "planted error: too small"
    without = Accounting().epsilon(_run(0.1, 512, 3.0), delta=1e-6)
    yield Published("epsilon if overflow were free", epsilon, without, planted, source)
    printed = float(plan.statement(1e-6).split("(")[1].split(",")[0])
    yield Published("epsilon printed by the statement", epsilon, printed, "at least", "rounded up")


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism of sensitivity over deviation `mu`, by its closed form."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def excess(epsilon):
        lost = math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
        return norm.cdf(mu / 2 - epsilon / mu) - lost - delta

    return float(brentq(excess, 0.0, 50 * mu))


def _poisson(noise_multiplier, sample_rate):
    return SampledGaussian(
        sampling="poisson", noise_multiplier=noise_multiplier, sample_rate=sample_rate
    )


def _run(sample_rate, steps, noise_multiplier):
    return [(_poisson(noise_multiplier, sample_rate), steps)]


def _fixed(noise_multiplier):
    return SampledGaussian(
        sampling="fixed",
        noise_multiplier=noise_multiplier,
        sample_rate=1.0,
        num_units=100,
        batch_size=100,
    )
