"""Standard normals from counter blocks, and the cost of their finite support in delta."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Integer, PyTree, UInt32

from trustml.noise.chacha import chacha_blocks
from trustml.noise.keys import check_key
from trustml.noise.tiles import in_tiles

_ROUNDS = 12
SUPPORT = math.sqrt(2 * 96 * math.log(2))  # 11.5 sigma: the radius that a 96-bit uniform reaches
# On a CPU, 65,000 values, whose words stay in its cache.
_TILES_ON_A_CPU, _TILES_ELSEWHERE = 1 << 9, 1 << 13
_PURPOSE = 0x4E4F4953  # "NOIS" in word 15, so that another use of the key meets other blocks
_QUARTER_TURN = math.pi / 4 * 2.0**-29
_ATANH = [2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0]
_SIN = [1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0]
_COS = [1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0]


def gaussian_like(
    tree: PyTree,
    key: UInt32[Array, "8"],
    step: Integer[Array, ""],
    *,
    rounds: int = _ROUNDS,
    shardings: PyTree | None = None,
) -> PyTree:
    """Standard normals in the shapes of `tree`'s leaves, float32.

    Value `j` of leaf `l` depends on `(key, step, l, j)` alone, counted in row-major order: not on
    the mesh, the micro-batches or the other leaves. `step` counts modulo 2**32.

    Measured on two CPU cores that others share: 10 to 13 ns a value with 12 rounds, for one to
    twenty million values, where `jax.random.normal` took 6 to 15; its key has 64 bits and its
    values stop at 5.2. 12 rounds, since no attack on them better than searching the key is known.

    >>> from trustml.noise.keys import key_from_seed
    >>> key, step = key_from_seed(0), jnp.uint32(0)
    >>> few, many = (gaussian_like(jnp.zeros(size), key, step) for size in (3, 300))
    >>> bool((few == many[:3]).all()), bool(abs(many.std() - 1) < 0.1)
    (True, True)

    Args:
      tree: Arrays or `jax.ShapeDtypeStruct`; only shapes are read.
      key: 256 secret bits.
      step: Updates so far.
      rounds: Of ChaCha.
      shardings: Like `tree`, a `NamedSharding` for each leaf: every device then draws the values
        that it holds. Where tiles of 128 values do not divide among the devices of an axis, all of
        them draw the values along it.
    """
    check_key(key)
    tiles = _TILES_ON_A_CPU if jax.default_backend() == "cpu" else _TILES_ELSEWHERE
    return in_tiles(_draw_of(rounds), tree, key, step, at_a_time=tiles, shardings=shardings)


def gaussian(
    key: UInt32[Array, "8"], shape: tuple[int, ...], *, step: int = 0
) -> Float32[Array, "..."]:
    """Standard normals of one shape: `gaussian_like` for a tree of one leaf.

    >>> from trustml.noise.keys import key_from_seed
    >>> first, second = (gaussian(key_from_seed(0), (2, 3), step=step) for step in (0, 1))
    >>> first.shape, bool((first == second).any())
    ((2, 3), False)
    """
    return gaussian_like(jax.ShapeDtypeStruct(shape, jnp.float32), key, jnp.uint32(step))


def tail_probability(dimension: float) -> float:
    """Total variation distance of `dimension` of these normals from ideal ones, at most.

    The ideal pair leaves the disc of radius R that Box-Muller reaches with probability
    exp(-R^2/2). That is more than 2Q(R) a value, the mass beyond the support of one coordinate,
    because the ideal pair fills a square.

    >>> f"{tail_probability(1e9):.0e}"
    '1e-20'
    """
    return dimension * math.exp(-(SUPPORT**2) / 2)  # a pair's share for each value: twice too much


def tail_delta(epsilon: float, *, steps: int, dimension: float) -> float:
    """The addition to delta that pays for normals which never exceed `SUPPORT`.

    >>> f"{tail_delta(8.0, steps=1_000, dimension=1e9):.0e}"
    '4e-14'

    Args:
      epsilon: The epsilon that the delta goes with.
      steps: Releases.
      dimension: Noisy values per release, at most.
    """
    return (1 + math.exp(min(epsilon, 700.0))) * steps * tail_probability(dimension)


@functools.lru_cache(maxsize=8)
def _draw_of(rounds):
    """The draw that `in_tiles` calls: four pairs from a block, of four words each."""

    def draw(key, counter, place):
        words = chacha_blocks(key, (*counter, jnp.uint32(_PURPOSE)), rounds=rounds)
        return block_normals([place(word) for word in words])

    return draw


def block_normals(words):
    """Eight standard normals from sixteen words, on a new axis before the last.

    Pair by pair, and joined at the end: XLA's CPU code for joined words took twice the time.

    Args:
      words: Sixteen arrays [..., lane].

    Returns:
      [..., 8, lane].
    """
    found = []
    for high, low, rest, turn in zip(*(words[i : i + 4] for i in (0, 4, 8, 12)), strict=True):
        radius = jnp.sqrt(2 * _exponential(high, low, rest))
        found += [radius * part for part in _unit_vector(turn)]
    return jnp.stack(found, axis=-2)


def _exponential(high, low, rest):
    """-log U for the uniform U of 64 bits, in float32 with relative precision at both ends.

    `rest` is read only where the 64 bits are all zero.
    """
    uniform = jnp.where((high | low) == 0, _scaled(rest, 0.5, 2.0**-96), _fraction(high, low))
    complement = _fraction(~high, ~low)  # 1 - U, from the bits: U rounds to 1 in float32
    bits = jax.lax.bitcast_convert_type(uniform, jnp.uint32)
    mantissa = jax.lax.bitcast_convert_type(
        (bits & jnp.uint32(0x007FFFFF)) | jnp.uint32(0x3F000000), jnp.float32
    )
    halvings = _scaled(jnp.uint32(126) - (bits >> jnp.uint32(23)), 0.0, 1.0)
    upper = high >= jnp.uint32(1 << 31)
    # U = 2^-halvings (1 - rest): log1p alone then serves both ends.
    below_one = jnp.where(upper, complement, 1 - mantissa)
    ratio = below_one / (2 - below_one)
    log1p = ratio * _polynomial(_ATANH, ratio * ratio)  # -log(1 - x) = 2 atanh(x / (2 - x))
    return jnp.where(upper, 0.0, halvings) * math.log(2) + log1p


def _unit_vector(turn):
    """Cosine and sine of a uniform angle: an octant from three bits, the rest from 29."""
    angle = _scaled(turn & jnp.uint32((1 << 29) - 1), 0.5, _QUARTER_TURN)
    square = angle * angle
    sine, cosine = angle * _polynomial(_SIN, square), _polynomial(_COS, square)
    swap = (turn & jnp.uint32(1 << 29)) != 0
    first, second = jnp.where(swap, sine, cosine), jnp.where(swap, cosine, sine)
    return _signed(first, turn), _signed(second, turn << jnp.uint32(1))


def _fraction(high, low):
    """(high 2^32 + low + 1/2) 2^-64: never 0; float32 rounds it, relative to its size."""
    return _scaled(high, 0.0, 2.0**-32) + _scaled(low, 0.5, 2.0**-64)


def _scaled(word, shift, scale):
    return (word.astype(jnp.float32) + shift) * scale


def _signed(value, bits):
    """`value` with its sign flipped where the top bit is set."""
    sign = bits & jnp.uint32(1 << 31)
    flipped = jax.lax.bitcast_convert_type(value, jnp.uint32) ^ sign
    return jax.lax.bitcast_convert_type(flipped, jnp.float32)


def _polynomial(coefficients, x):
    """Horner's rule, leading coefficient first."""
    result = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result
