"""The discrete Gaussian on the integers, drawn with a fixed amount of work from counter blocks.

The law N_Z(0, s^2) gives the integer x a probability proportional to rho_s(x) = exp(-x^2/(2 s^2)).
Write theta_t(c) = sum over integers y of rho_t(y - c). Everything here rests on one sum, Poisson's:

  theta_t(c) = t sqrt(2 pi) (1 + 2 sum_{m >= 1} exp(-2 pi^2 t^2 m^2) cos(2 pi m c)),

so that theta_t is within (1 - e, 1 + e) of t sqrt(2 pi) wherever it is centred, with
e = smoothing_error(t): 1.1e-26 for t = 1.75, 1e-34 for t = 2.

**How values are drawn.** x = x_0 + k x_1 + k^2 x_2 + ..., each x_i from N_Z(0, b^2) by a table.
Let y be exactly N_Z(0, u^2) and x_0 be N_Z(0, b^2). Completing the square, the probability of
x_0 + k y = n is proportional to

  sum_y rho_u(y) rho_b(n - k y) = rho_s(n) theta_t(c(n)), s^2 = b^2 + k^2 u^2, t = b u / s,

so it is rho_s(n) times a factor within (1 - e(t), 1 + e(t)) of a constant. Its ratio to N_Z(0, s^2)
is then within (1 - e)/(1 + e) and its inverse, and its total variation distance at most
e/(1 - e). Levels add up by the triangle inequality; t is least at the first, b / sqrt(1 + k^2).

**Why it is as private as the real Gaussian.** Let Y be a real N(0, s^2 - 4), and let K(y) be the
integer n with probability rho_2(n - y) / theta_2(y). The law of K(Y) at n is

  integral of phi(y; s^2 - 4) rho_2(n - y) / theta_2(y) dy, within e(2) of the law of N_Z(0, s^2),

since 1 / theta_2 is constant up to e(2), and what remains is a convolution of two Gaussians. K
commutes with integer shifts: z + K(Y) and K(z + Y) have one law. So z + N_Z(0, s^2) is, up to a
total variation of e(2) = 1e-34 a value, computed from z + N(0, s^2 - 4) without looking at z: it
is post-processing. Every promise about the real Gaussian of standard deviation sqrt(s^2 - 4), by
any accountant and under any sampling, is one about integer noise.

**At whole orders, of the same width.** For P = z + N_Z(0, s^2) and Q = N_Z(0, s^2) in any dimension
and whole k, E_Q (P/Q)^k = exp(k (k-1) |z|^2 / (2 s^2)) exactly: completing the square leaves
theta_s(k z) / theta_s(0) = 1. So the binomial sum for E_Q ((1-q) + q P/Q)^a is the real
Gaussian's at whole a. The other direction, of Q against M = (1-q) Q + q P, is no larger at any
a >= 1. x -> z - x swaps P and Q, so that it suffices to show f(r) + r f(1/r) >= 0 for r = P/Q >= 1,
f(r) = m^a - m^(1-a), m = 1 - q + q r, and m' = 1 - q + q / r. With c = a - 1/2, u = log m and
u' = -log m' that is sqrt(m) sinh(c u) >= r sqrt(m') sinh(c u'). At c = 1/2 both sides are
q (r - 1) / 2; sinh(c u) / sinh(u / 2) grows with u; and u >= u', since
m m' = 1 + q (1-q) (r + 1/r - 2) >= 1. Tests hold both against exact sums.

References:
  Micciancio, Walter, Gaussian sampling over the integers: efficient, generic, constant-time, 2017.
  Poeppelmann, Ducas, Gueneysu, Enhanced lattice-based signatures on reconfigurable hardware, 2014.
  Peikert, An efficient and parallel Gaussian sampler for lattices, 2010: K, and such convolutions.
  Canonne, Kamath, Steinke, The discrete Gaussian for differential privacy, 2020: its tails.
  Mironov, Talwar, Zhang, Rényi differential privacy of the sampled Gaussian mechanism, 2019.
  Walker, An efficient method for generating discrete random variables with general distributions,
  1977.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, PyTree, UInt32

from trustml.noise.alias import THRESHOLD_BITS, alias_table
from trustml.noise.chacha import chacha_blocks
from trustml.noise.keys import check_key
from trustml.noise.tiles import VALUES, in_tiles

MOST_DISTANCE = 2e-23  # a value, of any law that is made here
_LEAST_STDDEV = 20.0  # below, what the real Gaussian has less of (see above) passes half a percent
LARGEST_VALUE = 2**30 - 1  # so that a sum within 2**30 and a value stay within int32
_ROUNDING = 2.0  # the t of K
_SMOOTH = 1.75  # the least t of a level
_TAIL = 10.5  # tables end at so many standard deviations
_MOST_SLOT_BITS = 16  # a slot is half a word
_WORDS = 3  # a draw: 80 bits against a threshold, and a slot from the last word's high half
# 65,000 values on a CPU, whose words stay in its cache: a million took twice the time.
_TILES_ON_A_CPU, _TILES_ELSEWHERE = 1 << 9, 1 << 13
_MOST_LEVELS = 4
_PURPOSE = 0x47524400  # "GRD" and the number of the block in word 15


class DiscreteGaussian(NamedTuple):
    """How N_Z(0, stddev^2) is drawn, and what is known of it; made by `discrete_gaussian`."""

    stddev: float  # of the law: at least as asked, and at most 2e-12 of itself more
    base: float  # standard deviation of the table
    factor: int  # between levels
    levels: int
    half_width: int  # the table's largest value
    slot_bits: int

    @property
    def largest(self) -> int:
        """No value is larger in size."""
        return self.half_width * sum(self.factor**level for level in range(self.levels))

    @property
    def gaussian_stddev(self) -> float:
        """Standard deviation of the real Gaussian that an accountant is to be asked about."""
        return math.sqrt(self.stddev**2 - _ROUNDING**2)

    @property
    def distance(self) -> float:
        """Total variation distance of one value from post-processing of `gaussian_stddev`."""
        table = 2 * math.exp(-(_TAIL**2) / 2) + 2.0 ** (1 - THRESHOLD_BITS)
        smooth = smoothing_error(self.base / math.hypot(1.0, self.factor))
        convolution = (self.levels - 1) * smooth / (1 - smooth)
        return self.levels * table + convolution + smoothing_error(_ROUNDING)


def smoothing_error(t: float) -> float:
    """How far sums of exp(-(y - c)^2 / (2 t^2)) over the integers depend on c, relatively, at most.

    >>> f"{smoothing_error(1.75):.1e}"
    '1.1e-26'
    """
    first = math.exp(-2 * (math.pi * t) ** 2)
    return 2 * first / (1 - first)


def discrete_gaussian(stddev: float) -> DiscreteGaussian:
    """The law N_Z(0, stddev^2) with the fewest tables that draw it.

    >>> law = discrete_gaussian(2e5)
    >>> law.levels, law.factor, law.slot_bits, f"{law.distance:.0e}"
    (2, 338, 14, '8e-24')

    Args:
      stddev: In units of the grid, from 20 up to about 1e8.

    Guarantee:
      Adding a value to an integer z is within `distance` of a computation that reads only z plus
      a real normal of standard deviation `gaussian_stddev` (proof above). n such values are within
      n times `distance`. Assumed: the words of the cipher are uniform. Not covered: who can watch
      the caches of the machine at work, since tables are read at secret places.

    Raises:
      ValueError: `stddev` is too small, or too large for int32.
    """
    if not (stddev >= _LEAST_STDDEV):
        raise ValueError(
            f"`stddev` must be at least {_LEAST_STDDEV:g} units of the grid, got {stddev!r}. "
            "Use a finer grid."
        )
    for levels in range(1, _MOST_LEVELS + 1 if math.isfinite(stddev) else 1):
        law = _with_levels(float(stddev), levels)
        if law.largest > LARGEST_VALUE:
            break
        if law.slot_bits <= _MOST_SLOT_BITS:
            return law
    raise ValueError(
        f"`stddev` must leave values within int32, at most about {LARGEST_VALUE / _TAIL:.1g} "
        f"units of the grid, got {stddev!r}. Use a coarser grid."
    )


def discrete_gaussian_like(
    tree: PyTree,
    key: UInt32[Array, "8"],
    step: Integer[Array, ""],
    law: DiscreteGaussian,
    *,
    shardings: PyTree | None = None,
) -> PyTree:
    """Integers from `law` in the shapes of `tree`'s leaves, int32.

    Value `j` of leaf `l` depends on `(key, step, l, j)` and the law alone, as in `gaussian_like`,
    whose blocks it never meets. The work does not depend on what is drawn.

    >>> from trustml.noise.keys import key_from_seed
    >>> law = discrete_gaussian(100.0)
    >>> drawn = discrete_gaussian_like(jnp.zeros(3), key_from_seed(0), jnp.int32(0), law)
    >>> drawn.dtype, drawn.shape
    (dtype('int32'), (3,))

    Args:
      tree: Arrays or `jax.ShapeDtypeStruct`; only shapes are read.
      key: 256 secret bits.
      step: Updates so far, modulo 2**32.
      law: From `discrete_gaussian`.
      shardings: As in `gaussian_like`.
    """
    check_key(key)
    tiles = _TILES_ON_A_CPU if jax.default_backend() == "cpu" else _TILES_ELSEWHERE
    return in_tiles(_draw_of(law), tree, key, step, at_a_time=tiles, shardings=shardings)


def as_private_as(gaussian_stddev: float) -> DiscreteGaussian:
    """The law whose noise is as private as real normals of so large a standard deviation.

    >>> law = as_private_as(1e3)
    >>> round(law.stddev, 4), law.gaussian_stddev >= 1e3
    (1000.002, True)

    Args:
      gaussian_stddev: In units of the grid, from about 20 up to about 1e8.

    Raises:
      ValueError: As in `discrete_gaussian`.
    """
    # Float64 rounds both this and the way back.
    return discrete_gaussian(math.hypot(gaussian_stddev, _ROUNDING) * (1 + 1e-12))


def _with_levels(stddev, levels):
    """The widest steps between so many levels that are smooth, or one table alone."""
    factor = 1 if levels == 1 else math.ceil((stddev / _SMOOTH) ** (1 / levels))
    base = _base(stddev, factor, levels)
    while levels > 1 and base < _SMOOTH * math.hypot(1.0, factor):
        factor -= 1
        base = _base(stddev, factor, levels)
    half = math.ceil(_TAIL * base)
    return DiscreteGaussian(stddev, base, factor, levels, half, (2 * half).bit_length())


def _base(stddev, factor, levels):
    # Float64 rounds: a trifle more, so that the law is never narrower than said.
    whole = math.sqrt(sum(factor ** (2 * level) for level in range(levels)))
    return stddev / whole * (1 + 1e-12)


@functools.lru_cache(maxsize=8)
def _draw_of(law):
    """The draw that `in_tiles` calls."""
    blocks = -(-VALUES * law.levels * _WORDS // 16)
    table = alias_table(law.base, law.half_width, law.slot_bits)

    def draw(key, counter, place):
        columns = [jnp.asarray(column) for column in table]  # once: constants of the program
        words = []
        for block in range(blocks):
            purpose = jnp.uint32(_PURPOSE + block)
            words += [place(word) for word in chacha_blocks(key, (*counter, purpose))]
        triples = [words[at : at + _WORDS] for at in range(0, len(words), _WORDS)]
        return jnp.stack([_value(law, columns, triples[at::VALUES]) for at in range(VALUES)], -2)

    return draw


def _value(law, columns, triples):
    """One value from the words of its levels."""
    value = _looked_up(law, columns, triples[0])
    for level in range(1, law.levels):
        value = value * jnp.int32(law.factor) + _looked_up(law, columns, triples[level])
    return value


def _looked_up(law, columns, words):
    """A value of the base law by Walker's method: a slot, and the slot's value or its alias."""
    high, middle, last = words
    half = jnp.uint32(0xFFFF)
    slot = ((last >> jnp.uint32(16)) & jnp.uint32((1 << law.slot_bits) - 1)).astype(jnp.int32)
    first, second, packed = (column.at[slot].get(mode="promise_in_bounds") for column in columns)
    tie = (middle < second) | ((middle == second) & ((last & half) < (packed & half)))
    own = (high < first) | ((high == first) & tie)
    alias = (packed >> jnp.uint32(16)).astype(jnp.int32)
    return jnp.where(own, slot, alias) - jnp.int32(law.half_width)
