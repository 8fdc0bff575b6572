"""Sums on a grid, noise in whole steps of it: a promise about floats as they are."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, Integer, PyTree, UInt32

from trustml.noise.discrete import LARGEST_VALUE, DiscreteGaussian, discrete_gaussian_like

_SHARE = 100  # rounding may add a hundredth of the bound
_LARGEST_SUM = float(LARGEST_VALUE + 1)  # 2**30, a float32
_LARGEST_EXPONENT = 96  # 2**31 steps are then a float32, and so is a step's inverse


def grid_spacing(clip_bound: float, dimension: float) -> float:
    """The widest power of two by which rounding adds at most a hundredth to the bound.

    >>> grid_spacing(1.0, 1e6) == 2.0**-17
    True

    Args:
      clip_bound: What a unit moves the sum by, at most, in l2 norm.
      dimension: Values of the sum.

    Raises:
      ValueError: An argument is not positive and finite, or the spacing leaves float32.
    """
    _check_positive("clip_bound", clip_bound)
    _check_positive("dimension", dimension)
    # In whole numbers: a square root that float64 rounds down would pass too wide a grid.
    most = Fraction(clip_bound) ** 2 / (_SHARE**2 * Fraction(dimension))
    exponent = math.frexp(math.sqrt(most))[1]
    while Fraction(4) ** exponent > most:
        exponent -= 1
    return _check_spacing(math.ldexp(1.0, exponent))


def grid_sensitivity(clip_bound: float, spacing: float, dimension: float) -> float:
    """Largest move of the rounded sum by one unit, in l2 norm: clip_bound + spacing sqrt(d).

    Rounding moves each coordinate by at most half a step in both sums, so that the difference of a
    coordinate grows by a step at most, and that of d coordinates by sqrt(d) steps.

    >>> grid_sensitivity(1.0, 2.0**-17, 1e6) <= 1.01
    True

    Args:
      clip_bound: What a unit moves the sum by, at most, before it is rounded.
      spacing: Of the grid.
      dimension: Values of the sum.

    Raises:
      ValueError: `clip_bound` or `dimension` is not positive and finite, or `spacing` is not a
        power of two.
    """
    _check_positive("clip_bound", clip_bound)
    _check_positive("dimension", dimension)
    bound = clip_bound + _check_spacing(spacing) * math.sqrt(dimension)
    return math.nextafter(bound * (1 + 2.0**-51), math.inf)


def rounded(values: Float32[Array, "..."], spacing: float) -> Int32[Array, "..."]:
    """The nearest steps of the grid, by half to even, as whole numbers within +-2**30.

    Dividing by a power of two is exact, so that this is a function of the floats with no error but
    the half step. Beyond 2**30 steps values are cut, which moves no two of them apart, and so are
    infinite ones. What is not a number becomes 0: in the result it would show through any noise.
    Sums of clipped finite values hold none; where one does, no bound is known and no promise holds.

    >>> rounded(jnp.float32([0.24, 0.26, -jnp.inf, jnp.nan]), 0.5).tolist()
    [0, 1, -1073741824, 0]

    Raises:
      TypeError: `values` are not float32.
      ValueError: `spacing` is no power of two that float32 multiplies by without error.
    """
    if values.dtype != jnp.float32:
        raise TypeError(
            f"`values` must be float32 to be rounded to a grid, got {values.dtype}: sums below "
            "float32 have errors wider than the grid. Sum in float32."
        )
    steps = values * jnp.float32(1 / _check_spacing(spacing))
    steps = jnp.where(jnp.isnan(steps), jnp.float32(0), steps)
    steps = jnp.clip(steps, jnp.float32(-_LARGEST_SUM), jnp.float32(_LARGEST_SUM))
    return jnp.round(steps).astype(jnp.int32)


def add_discrete_noise(
    sums: PyTree,
    spacing: float,
    law: DiscreteGaussian,
    key: UInt32[Array, "8"],
    step: Integer[Array, ""],
    shardings: PyTree | None = None,
) -> PyTree:
    """`sums` rounded to the grid plus whole steps of noise, float32.

    >>> from trustml.noise.discrete import as_private_as
    >>> from trustml.noise.keys import key_from_seed
    >>> spacing = grid_spacing(1.0, dimension=3)
    >>> law = as_private_as(2.0 * grid_sensitivity(1.0, spacing, 3) / spacing)
    >>> noisy = add_discrete_noise(jnp.ones(3), spacing, law, key_from_seed(0), jnp.int32(0))
    >>> bool((noisy / spacing == jnp.round(noisy / spacing)).all())
    True

    Args:
      sums: Clipped sums, float32.
      spacing: Of the grid, from `grid_spacing`.
      law: Of the noise, in steps of the grid.
      key: 256 secret bits.
      step: Updates so far.
      shardings: Like `sums`, a `NamedSharding` for each leaf.

    Guarantee:
      If adding or removing a unit moves `sums`, as the floats that they are, by at most
      `clip_bound` in l2 norm, a step is the Gaussian mechanism with sensitivity
      `grid_sensitivity(clip_bound, spacing, dimension)` and standard deviation
      `spacing * law.gaussian_stddev`, up to `law.distance` for each value in total variation: it
      depends on the data through that mechanism alone (`trustml.noise.discrete` has the proof). So
      every accountant of the Gaussian mechanism holds for it, under any sampling. The last bits of
      a result tell nothing more: it is an exact integer, turned into a float32 and multiplied
      by a power of two, and no float enters the noise.
      Not covered: what float32 additions within `sums` move beyond `clip_bound`, since rounding
      comes after them (Casacuberta et al. 2022). Void as for `add_gaussian_noise`: a step drawn
      twice with different sums, or a known key.

    Raises:
      ValueError: `spacing` is not a power of two, or out of float32's reach.
      TypeError: A leaf is not float32, or `key` is not uint32[8].

    References:
      Mironov, On significance of the least significant bits for differential privacy, 2012.
      Casacuberta et al., Widespread underestimation of sensitivity in differentially private
      libraries and how to fix it, 2022.
    """
    noise = discrete_gaussian_like(sums, key, step, law, shardings=shardings)
    # 2**30 and at most 2**30 - 1: the sum is within int32.
    return jax.tree.map(
        lambda value, steps: (
            (rounded(value, spacing) + steps).astype(jnp.float32) * jnp.float32(spacing)
        ),
        sums,
        noise,
    )


def _check_spacing(spacing: float) -> float:
    """`spacing` itself, if it is a power of two that float32 can multiply by without error.

    Raises:
      ValueError: It is not.
    """
    if not (spacing > 0 and math.isfinite(spacing) and math.frexp(spacing)[0] == 0.5):
        raise ValueError(f"`spacing` must be a power of two, got {spacing!r}. Use `grid_spacing`.")
    if not (2.0**-_LARGEST_EXPONENT <= spacing <= 2.0**_LARGEST_EXPONENT):
        raise ValueError(
            f"`spacing` must be from 2**-{_LARGEST_EXPONENT} to 2**{_LARGEST_EXPONENT}, got "
            f"{spacing!r}. Use a loss or a clip bound of a more ordinary scale."
        )
    return spacing


def _check_positive(name, value):
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{name}` must be positive and finite, got {value!r}.")
