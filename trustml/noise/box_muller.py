"""Standard normals from counter blocks, and what their finite support costs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Integer, PyTree, UInt32

from trustml.noise.chacha import chacha_blocks
from trustml.noise.keys import check_key

ROUNDS = 12
SUPPORT = math.sqrt(2 * 96 * math.log(2))  # 11.5 sigma: the radius that a 96-bit uniform reaches
_VALUES_PER_BLOCK = 10  # five pairs of three words each; the sixteenth word extends the tails
_ROW_MULTIPLE = 64  # rows of odd length cost XLA's CPU code five times the time
_PURPOSE = 0x4E4F4953  # "NOIS" in word 15, so that another use of the key meets other blocks
_QUARTER_TURN = math.pi / 4 * 2.0**-29
_ATANH = [2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0]
_SIN = [1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0]
_COS = [1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0]


def gaussian_like(
    tree: PyTree, key: UInt32[Array, "8"], step: Integer[Array, ""], *, rounds: int = ROUNDS
) -> PyTree:
    """Standard normals in the shapes of `tree`'s leaves, float32.

    Value `j` of leaf `l` depends on `(key, step, l, j)` and the leaf's size alone: not on the
    mesh, the micro-batches or the other leaves. `step` counts modulo 2**32.

    Measured on two busy CPU cores, in CPU time: 8 to 12 ns a value with 12 rounds, 12 to 16 with
    20, 5 to 7 for `jax.random.normal`, whose key has 64 bits and whose values stop at 5.2.
    Hence 12 rounds, against which no attack better than searching the key is known.
    """
    check_key(key)
    leaves, treedef = jax.tree.flatten(tree)
    blocks = [-(-leaf.size // _VALUES_PER_BLOCK) for leaf in leaves]
    if not sum(blocks):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), tree)
    values = _normals(key, step.astype(jnp.uint32), tuple(blocks), rounds)
    ends = np.cumsum(blocks)
    normals = [
        values[:, end - count : end].reshape(-1)[: leaf.size].reshape(leaf.shape)
        for leaf, end, count in zip(leaves, ends, blocks, strict=True)
    ]
    return jax.tree.unflatten(treedef, normals)


def gaussian(
    key: UInt32[Array, "8"], shape: tuple[int, ...], *, step: int = 0
) -> Float32[Array, "..."]:
    """Standard normals of one shape: `gaussian_like` for a tree of one leaf."""
    return gaussian_like(jax.ShapeDtypeStruct(shape, jnp.float32), key, jnp.uint32(step))


def tail_probability(dimension: float) -> float:
    """Total variation distance of `dimension` of these normals from ideal ones, at most.

    The ideal pair leaves the disc of radius R that Box-Muller reaches with probability
    exp(-R^2/2). That is more than 2Q(R) a value, the mass beyond the support of one coordinate,
    because the ideal pair fills a square.
    """
    return dimension * math.exp(-(SUPPORT**2) / 2)  # a pair's share for each value: twice too much


def tail_delta(epsilon: float, *, steps: int, dimension: float) -> float:
    """What must be added to delta because the normals never exceed `SUPPORT`.

    >>> f"{tail_delta(8.0, steps=1_000, dimension=1e9):.0e}"
    '4e-14'

    Args:
      epsilon: The epsilon that the delta goes with.
      steps: Releases.
      dimension: Noisy values per release, at most.
    """
    return (1 + math.exp(min(epsilon, 700.0))) * steps * tail_probability(dimension)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _normals(key, step, blocks, rounds):
    """Ten rows of normals; leaf `l` owns the `blocks[l]` columns after those of the leaves before.

    One call for all leaves: XLA compiles the rounds once, not once a leaf.
    """
    counts = (*blocks, -sum(blocks) % _ROW_MULTIPLE)
    block = jnp.concatenate([jax.lax.iota(jnp.uint32, count) for count in counts])
    leaf = jnp.concatenate([jnp.full(count, i, jnp.uint32) for i, count in enumerate(counts)])
    counter = (block, leaf, step, jnp.uint32(_PURPOSE))
    return block_normals(jnp.stack(chacha_blocks(key, counter, rounds=rounds)))


def block_normals(words):
    """Ten rows of standard normals from sixteen rows of words."""
    high, low, turn = words[0:5], words[5:10], words[10:15]
    radius = jnp.sqrt(2 * _exponential(high, low, jnp.broadcast_to(words[15:], high.shape)))
    cosine, sine = _unit_vector(turn)
    return jnp.concatenate([radius * cosine, radius * sine])


def _exponential(high, low, rest):
    """-log U for the uniform U of 64 bits, in float32 with relative precision at both ends.

    `rest` is read only where the 64 bits are all zero. Five pairs share it: two of them read it
    in one block with probability below 2**-124.
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
