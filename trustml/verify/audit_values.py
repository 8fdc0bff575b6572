"""Published values of lower bounds on epsilon, and ours."""

from collections.abc import Iterator
from typing import NamedTuple, get_args

from trustml.audit import (
    Counts,
    bayesian_epsilon,
    epsilon_from_counts,
    gaussian_epsilon,
    one_run_epsilon,
    one_run_gaussian_epsilon,
    rate_ratio_bound,
)
from trustml.audit.bounds.ratios import Ratio

DELTA = 1e-5


class AuditCheck(NamedTuple):
    """A figure of a bound, and the interval in which it has to lie."""

    check: str
    found: float
    low: float
    high: float
    planted: bool  # the rule is known to be wrong, and must be found above the interval
    basis: str  # where the interval comes from

    @property
    def holds(self) -> bool:
        """Whether the value is inside, or above where the rule is wrong; never if it is NaN."""
        return self.found > self.high if self.planted else self.low <= self.found <= self.high


# Members called so and missed, non-members called members and let pass; error probability; bounds
# of the ratio TPR / FPR in the order of `Ratio`.
_RATIOS = [
    ((473, 511, 755, 950), 0.05, (1.01166194, 1.01189079, 1.01148934, 1.01167669)),
    ((2, 697, 213, 313), 0.05, (0.00220470, 0.00310880, 0.00162322, 0.00233503)),
    ((1000, 10, 10, 10000), 0.05, (589.27335593, 568.32659563, 613.58766147, 592.63264572)),
    ((0, 511, 755, 950), 0.05, (0.0, 0.00021568, 0.0, 0.0)),
    ((2, 697, 0, 313), 0.05, (0.13325535, 0.17571862, 0.18481008, 0.08081083)),
    ((0, 10, 0, 10000), 0.05, (0.0, 0.0, 0.0, 0.0)),
    ((473, 0, 755, 950), 0.05, (2.15959024, 2.15883995, 2.15787013, 2.15959827)),
    ((2, 697, 213, 0), 0.05, (0.00089568, 0.00126522, 0.00066016, 0.00094821)),
    ((1000, 0, 10, 0), 0.05, (0.93375356, 0.93686007, 0.93591485, 0.93381958)),
    ((900, 100, 600, 600), 0.05, (1.71127264, 1.71070821, 1.71182320, 1.71128185)),
    ((0, 1000, 14, 1186), 0.05, (0.0, 0.00388765, 0.0, 0.0)),
    ((10, 990, 0, 1200), 0.05, (2.21549347, 2.33237436, 3.86813751, 1.51711034)),
    ((1000, 0, 1200, 0), 0.05, (0.99840355, 0.99840433, 0.99840348, 0.99840355)),
    ((500, 0, 0, 500), 0.01, (37.31696140, 37.35421695, 108.47420518, 35.46128691)),
]
_TF_PRIVACY = "TensorFlow Privacy, epsilon_lower_bound_test"

# Canaries, guesses, correct guesses, delta, tests to correct for, epsilon, width of its rounding.
# Where tests are corrected for, jax_privacy's scores are 10,000 quantiles of N(0, 1) and of
# N(1, 1), N(2, 1) or N(4, 1), and the counts are those of its best threshold.
ONE_RUN = [
    (1000, 1000, 600, 1e-5, 1, 0.29723, 1e-5),
    (1000, 1000, 750, 1e-5, 1, 0.97637, 1e-5),
    (1000, 100, 100, 1e-5, 1, 3.46538, 1e-5),
    (1000, 100, 99, 1e-5, 1, 3.00283, 1e-5),
    (1000, 1000, 1000, 1e-5, 1, 5.78228, 1e-5),
    (10_000, 1000, 1000, 1e-5, 1, 5.52935, 1e-5),
    (1000, 100, 100, 0.0, 1, 3.49297, 1e-5),
    (132, 132, 86, 0.0, 1, 0.31220, 1e-5),
    (20_000, 3376, 2807, 1e-6, 386, 1.13346, 1e-5),
    (20_000, 4666, 4499, 1e-6, 374, 2.311945, 1e-5),
    (20_000, 8233, 8223, 1e-6, 140, 4.395568, 1e-5),
]
ONE_RUN_GAUSSIAN = [
    (20_000, 406, 379, 1e-6, 386, 2.164749, 1e-5),
    (20_000, 938, 934, 1e-6, 374, 4.7218075, 1e-5),
    (20_000, 5436, 5436, 1e-6, 140, 9.133752, 1e-5),
]
_JAX_PRIVACY = "jax_privacy, auditing and its tests"
_GAUSSIAN = [(0.25, 0.926), (0.5, 1.993), (1.0, 4.377), (2.0, 9.997), (3.0, 16.676)]


def published_bounds() -> Iterator[AuditCheck]:
    """Yields every value that somebody published, with the width of its rounding."""
    for place, method in enumerate(get_args(Ratio)):
        apart = max(
            abs(
                rate_ratio_bound(Counts(*counts), method=method, confidence=1 - level)
                - found[place]
            )
            for counts, level, found in _RATIOS
        )
        name = f"{method}: largest distance to {len(_RATIOS)} published bounds"
        yield AuditCheck(name, apart, 0.0, 1e-7, False, _TF_PRIVACY)
    found = epsilon_from_counts(Counts(500, 0, 0, 500), confidence=0.99)
    source = "Jagielski, Ullman, Oprea 2020: 500 of 500"
    yield _near("clopper-pearson", found.epsilon, 4.54, 0.005, source)
    for mu, published in _GAUSSIAN:
        source = "closed form, Balle and Wang 2018"
        yield _near(f"epsilon of mu {mu:g}", gaussian_epsilon(mu, DELTA), published, 1e-3, source)
    for name, bound, table in (
        ("one run", one_run_epsilon, ONE_RUN),
        ("one run, gaussian", one_run_gaussian_epsilon, ONE_RUN_GAUSSIAN),
    ):
        for canaries, guesses, correct, delta, tests, published, width in table:
            sure = 1 - 0.05 / tests
            epsilon = bound(guesses, correct, canaries=canaries, delta=delta, confidence=sure)
            what = f"{name}: {correct} of {guesses} right, of {canaries}, delta {delta}"
            yield _near(what, epsilon, published, width, _JAX_PRIVACY)
    yield from _published_intervals()


def _published_intervals():
    source = "privacy-estimates, joint-beta (within 0.01, and 0.005 in probability)"
    found = bayesian_epsilon(Counts(487, 0, 512, 1), delta=DELTA, confidence=0.9)
    yield _near("posterior, lower end", found.epsilon, 0.145, 0.02, source)
    yield _near("posterior, upper end", found.upper, 6.399, 0.02, source)
    found = bayesian_epsilon(Counts(1000, 0, 0, 1000), delta=DELTA, confidence=0.9)
    yield _near("posterior, 1000 of 1000", found.epsilon, 7.21, 0.01, source)


def _near(check, found, published, width, source):
    return AuditCheck(check, found, published - width, published + width, False, source)
