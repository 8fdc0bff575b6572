"""The bound that prices a run: the tightest whose size, known before, is within reason."""

import functools
import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

from trustml.accounting.quiet import quietly
from trustml.accounting.renyi import renyi_curve
from trustml.accounting.size import width
from trustml.accounting.steps import SampledGaussian, dp_event, relation

Steps = tuple[tuple[SampledGaussian, int], ...]

FINE = 1e-4  # spacing of privacy losses
_WIDEST = 0.1  # beyond, with losses in the thousands, a grid says no more than Rényi divergences
_MOST_KINDS = 200  # of steps: each takes a distribution of its own
_MAKING = 8  # times the work of composing, for each point of a step's own distribution
_ROUNDING = 1e-16  # of delta for each composition by Fourier transforms; 2.3e-17 measured
_CUT = 1e-15  # mass that dp_accounting cuts from each composition
_NEGLIGIBLE = 1e-5  # of delta: the grid adds more than that


@runtime_checkable
class Curve(Protocol):
    """Epsilon and delta of one run as functions of each other."""

    def get_epsilon(self, delta: float) -> float:
        """Epsilon that holds at `delta`; infinite where the bound has none."""

    def get_delta(self, epsilon: float) -> float:
        """Delta that holds at `epsilon`."""


class Method(NamedTuple):
    """How a run is priced. In words: "PLD", "PLD on a grid of 0.002 (why)", "RDP (why)"."""

    accountant: str
    grid: float = 0.0
    why: str = ""  # where it is not what was asked for

    @property
    def as_asked(self) -> bool:
        """Whether this is the accountant that was asked for, on the grid that was asked for."""
        return not self.why

    def __str__(self) -> str:
        """The words of a statement."""
        name = self.accountant.upper()
        if self.accountant == "pld" and self.why:
            name += f" on a grid of {self.grid:g}"
        return f"{name} ({self.why})" if self.why else name


class LossCurve(NamedTuple):
    """By the distribution of privacy losses, with room for what floats lose in composing it."""

    distribution: Any
    rounding: float

    def get_epsilon(self, delta: float) -> float:
        """Epsilon that holds at `delta`."""
        left = delta - _paid(self.rounding, delta)
        return float(self.distribution.get_epsilon_for_delta(left)) if left > 0 else math.inf

    def get_delta(self, epsilon: float) -> float:
        """Delta that holds at `epsilon`."""
        found = float(self.distribution.get_delta_for_epsilon(epsilon))
        return found + _paid(self.rounding, found)


def methods(
    run: Steps, adjacency: str, accountant: str, grid: float, points: float, delta: float | None
) -> list[Method]:
    """Methods that price `run`: one, or several of which the lowest bound counts.

    The last has an answer wherever there is one.

    Args:
      run: Steps with their counts.
      adjacency: "add-or-remove-one" or "replace-one".
      accountant: What was asked for.
      grid: The finest spacing of privacy losses to use.
      points: The work that a grid of `FINE` may take; a coarser one may take as much less.
      delta: At which epsilon is asked for, if one is.
    """
    if accountant == "rdp":
        return [Method("rdp")]
    if delta is not None and delta < 10 * rounding(run):
        why = f"PLD in floats cannot resolve a delta of {delta} over so many steps"
        return [Method("rdp", why=why)]
    fallback = Method("rdp", why="this run is too large for PLD")
    spacing = _spacing(run, adjacency, grid, points)
    if spacing == math.inf:
        return [fallback]
    why = "" if spacing == grid else f"{grid:g} is too fine for this run"
    return [Method("pld", spacing, why), fallback]


@functools.lru_cache(maxsize=8)
def curve(run: Steps, adjacency: str, method: Method) -> Curve:
    """`run` composed."""
    # Composing costs a second, asking little; a statement, a report and a plot ask about one run.
    if method.accountant == "rdp":
        return renyi_curve(run, adjacency)
    from dp_accounting.pld import privacy_loss_distribution as pld

    total = pld.identity(method.grid)
    for step, count in run:
        total = total.compose(quietly(_composed, step, count, adjacency, method.grid))
    return LossCurve(total, rounding(run))


def rounding(run: Steps) -> float:
    """Upper bound of the delta that composing in floats may lose."""
    return sum(_ROUNDING * (1 if _is_one(step) else count) + 2 * _CUT for step, count in run)


def _is_one(step):
    """Whether many are one Gaussian mechanism, in closed form."""
    return step.sampling == "poisson" and step.sample_rate == 1


def _paid(rounding, delta):
    return rounding if rounding > _NEGLIGIBLE * delta else 0.0


@functools.lru_cache(maxsize=256)
def _spacing(run, adjacency, grid, points):
    if len(run) > _MOST_KINDS:
        return math.inf
    least = grid  # a coarser grid makes nothing narrower: what is below this cannot be enough
    for spacing in _grids(grid):
        if spacing >= least:
            wide = width(run, adjacency, spacing)
            least = (_MAKING * wide.step + wide.run) / (points * FINE) * grid
            if least <= spacing:
                return spacing
    return math.inf


def _grids(finest):
    """`finest`, then the round numbers above it."""
    yield finest
    for power in range(math.floor(math.log10(finest)), 0):
        for number in (1, 2, 5):
            spacing = float(f"{number}e{power}")
            if finest < spacing <= _WIDEST:
                yield spacing


def _composed(step, count, adjacency, grid):
    if _is_one(step):
        return _gaussian(step.noise_multiplier / math.sqrt(count), 1.0, adjacency, grid)
    one = _one(step, adjacency, grid)
    # From ten steps on dp_accounting does so itself, by the size to the power of the count: an
    # integer of gigabytes where that is ten million.
    return (_dense(one) if count >= 10 else one).self_compose(count)


def _dense(one):
    from dp_accounting.pld import privacy_loss_distribution as pld

    parts = [one._pmf_remove] if one._symmetric else [one._pmf_remove, one._pmf_add]
    return pld.PrivacyLossDistribution(*(part.to_dense_pmf() for part in parts))


@functools.lru_cache(maxsize=4)
def _one(step, adjacency, grid):
    """One step's distribution, which takes longer to make than to compose."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    if step.sampling == "poisson":
        return _gaussian(step.noise_multiplier, step.sample_rate, adjacency, grid)
    event = dp_event(step, adjacency)
    return pld.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=event.dataset_size,
        sampling_probability=event.sampling_probability,
        truncated_batch_size=event.truncated_batch_size,
        noise_multiplier=event.noise_multiplier,
        value_discretization_interval=grid,
        neighboring_relation=relation(adjacency),
    )


def _gaussian(noise, rate, adjacency, grid):
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.from_gaussian_mechanism(
        noise,
        sampling_prob=rate,
        value_discretization_interval=grid,
        neighboring_relation=relation(adjacency),
    )
