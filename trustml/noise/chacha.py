"""The ChaCha block function on whole arrays of counters."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def chacha_blocks(
    key: UInt32[Array, "8"], counter: Sequence[jax.Array], *, rounds: int = 12
) -> list[jax.Array]:
    """The sixteen output words of each block, as sixteen arrays of the counters' shape.

    State words 12 to 15 are the four counter words; each is an array or a scalar, and they
    broadcast. Rows of words, rather than one array of blocks, keep every operation elementwise.

    Args:
      key: 256 secret bits.
      counter: Words 12 to 15. Two blocks are independent unless all four words agree.
      rounds: Even. 20 is RFC 8439; 12 has no known attack better than exhaustive search and is
        what Rust's standard generator uses.

    Returns:
      Sixteen uint32 arrays.

    References:
      Bernstein, ChaCha, a variant of Salsa20, 2008. Nir, Langley, RFC 8439, 2018, section 2.3.
    """
    if rounds <= 0 or rounds % 2:
        raise ValueError(f"`rounds` must be positive and even, got {rounds!r}.")
    if len(counter) != 4:
        raise ValueError(f"`counter` must hold 4 words, got {len(counter)}.")
    words = [*map(jnp.uint32, _CONSTANTS), *key, *counter]
    shape = jnp.broadcast_shapes(*(word.shape for word in words))
    start = [jnp.broadcast_to(word, shape) for word in words]
    # A loop, not unrolled: XLA would repeat all rounds for each of the sixteen words, and compile
    # four times as long.
    state = jax.lax.fori_loop(0, rounds // 2, lambda _, state: _double_round(state), start)
    return [word + first for word, first in zip(state, start, strict=True)]


def _double_round(state):
    state = list(state)
    for quarter in (*_COLUMNS, *_DIAGONALS):
        _quarter_round(state, *quarter)
    return state


def _quarter_round(state, a, b, c, d):
    for left, right, into, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[left] = state[left] + state[right]
        mixed = state[into] ^ state[left]
        state[into] = (mixed << jnp.uint32(bits)) | (mixed >> jnp.uint32(32 - bits))
