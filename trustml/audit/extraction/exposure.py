"""Exposure: how many bits a model gives away about which of many secrets it was trained on."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_SPAN = 60.0  # nats below its start at which an integrand is nothing in float64


class SkewNormal(NamedTuple):
    """Density 2 phi(z) Phi(shape z) / scale, where z = (x - location) / scale."""

    shape: float
    location: float
    scale: float


class Extrapolated(NamedTuple):
    """Exposure by a fitted distribution, and how well it fits."""

    exposure: float  # bits
    fit: SkewNormal
    distance: float  # Kolmogorov-Smirnov: of the fitted distribution to that of the references


def exposure_by_rank(
    loss: float | np.floating, references: Float[np.ndarray, " reference"]
) -> float:
    """Exposure of a secret among all the others, bits: log2 of their number less log2 of its rank.

    A secret that ranks first among 10,000 (itself included) has 13.29 bits, the most there are; of
    a secret that the model never saw, half have less than 1 bit.

    >>> exposure_by_rank(0.5, np.array([0.7, 0.9, 0.4]))
    1.0

    Args:
      loss: Of the secret.
      references: Losses of all other secrets that there are, the secret's own left out. Of a
        sample of them, the result is that within the sample.

    Guarantee:
      None. Where losses are equal, references rank before the secret: what is reported is the
      least that the ranks say.

    Raises:
      ValueError: No references, or a loss that is not a number.

    References:
      Carlini et al., The Secret Sharer, 2019.
    """
    references = _checked(loss, references, 1)
    rank = 1 + np.count_nonzero(references <= loss)
    return math.log2(len(references) + 1) - math.log2(rank)


def exposure_by_extrapolation(
    loss: float | np.floating, references: Float[np.ndarray, " reference"]
) -> Extrapolated:
    """Exposure by a distribution fitted to a sample of references, bits.

    For secrets of which there are too many to score. A skew-normal distribution is fitted to the
    references by maximum likelihood; the exposure is -log2 of its probability of a loss as low as
    the secret's. Beyond the sample it is as good as the fit, of which `distance` tells the middle
    and not the tail: it is an estimate and no bound, and may exceed log2 of the number of secrets.

    >>> references = np.random.default_rng(0).normal(size=1_000)
    >>> 9 < exposure_by_extrapolation(-3.0, references).exposure < 11  # -log2 of 0.00135 is 9.5
    True

    Args:
      loss: Of the secret.
      references: Losses of secrets drawn at random.

    Raises:
      ValueError: Fewer than ten references, all alike, or a loss that is not a number.

    References:
      Carlini et al., The Secret Sharer, 2019.
    """
    references = _checked(loss, references, 10)
    if not (references.std() > 0):
        raise ValueError(
            f"`references` must differ, got {len(references)} times {references[0]!r}."
        )
    from scipy import stats

    centre, spread = references.mean(), references.std()
    scaled = (references - centre) / spread
    with np.errstate(all="ignore"):  # of points that the search for the fit tries and leaves
        shape, location, scale = stats.skewnorm.fit(scaled)
    fit = SkewNormal(float(shape), float(centre + spread * location), float(spread * scale))
    distance = stats.kstest(scaled, stats.skewnorm(shape, location, scale).cdf).statistic
    exposure = -log_probability(float(loss), fit) / math.log(2)
    return Extrapolated(exposure, fit, float(distance))


def log_probability(value: float, fit: SkewNormal) -> float:
    """Log of the probability of at most `value`, nats, in the far left tail too.

    >>> round(log_probability(-40.0, SkewNormal(0.0, 0.0, 1.0)), 3)
    -804.608
    """
    from scipy.special import ndtr, owens_t

    z = (value - fit.location) / fit.scale
    if z < -1 or (fit.shape > 0 and z < 0):
        return _left_tail(z, fit.shape)
    return math.log(ndtr(z) - 2 * owens_t(z, fit.shape))


def _left_tail(z, shape):
    """The same of a standardised value left of the mode, where the difference above cancels."""
    from scipy.integrate import quad
    from scipy.special import erfcx, log_ndtr

    def falls(far):
        """Log density at `z` and what it loses down to `z - far`, without large differences."""
        if shape > 0:  # Phi(x) = exp(-x^2 / 2) erfcx(-x / sqrt(2)) / 2
            curve = 1 + shape * shape
            start, end = (math.log(erfcx(shape * t / math.sqrt(2))) for t in (-z, far - z))
            return start - curve * z * z / 2 - math.log(2), end - start + curve * far * (
                z - far / 2
            )
        start, end = (float(log_ndtr(shape * t)) for t in (z, z - far))
        return start - z * z / 2, end - start + far * (z - far / 2)

    slope = -z + shape * _hazard(shape * z)
    # The density is log-concave: in units of 1 / slope it falls at least as exp(-u).
    area, _ = quad(lambda u: math.exp(falls(u / slope)[1]), 0, _SPAN)
    return falls(0.0)[0] + math.log(2 / math.sqrt(2 * math.pi)) - math.log(slope) + math.log(area)


def _hazard(x):
    """phi(x) / Phi(x)."""
    from scipy.special import erfcx, ndtr

    if x < 0:
        return math.sqrt(2 / math.pi) / erfcx(-x / math.sqrt(2))
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) / ndtr(x)


def _checked(loss, references, least):
    references = np.asarray(references, np.float64)
    if references.ndim != 1 or len(references) < least:
        raise ValueError(
            f"`references` must be at least {least} losses, got shape {references.shape}."
        )
    if not (math.isfinite(loss) and np.isfinite(references).all()):
        raise ValueError(f"`loss` and `references` must be finite, got {loss!r} as the loss.")
    return references
