"""A quick fingerprint of a state on its device: whether a repeated step met the same state."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt32

_LANES = ((0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35), (0x27D4EB2F, 0x165667B1, 0x2C1B3C6D))


def state_digest(tree: PyTree) -> str:
    """Sixteen hexadecimal digits that two trees share if their bits agree, else hardly ever.

    A hash against rounding and decay, not against an adversary. It reads noisy quantities, and
    weights that are not trained, so it may stand in a ledger.
    """
    words = np.asarray(_digest([leaf for leaf in jax.tree.leaves(tree) if not _is_key(leaf)]))
    return "".join(f"{int(word):08x}" for word in words)


@jax.jit
def _digest(leaves) -> UInt32[Array, "2"]:
    total = jnp.zeros(len(_LANES), jnp.uint32)
    for place, leaf in enumerate(leaves):
        words = _words(leaf)
        total = total + jnp.stack([_mixed(words, place, lane) for lane in _LANES])
    return total


def _mixed(words, place, lane):
    """Sum of the mixed words, each with its position: sums of integers have no order."""
    spread, first, second = map(jnp.uint32, lane)
    position = jax.lax.iota(jnp.uint32, words.size) + jnp.uint32(place + 1) * second
    mixed = (words ^ (position * spread)) * first
    mixed = (mixed ^ (mixed >> jnp.uint32(15))) * second
    return jnp.sum(mixed ^ (mixed >> jnp.uint32(13)), dtype=jnp.uint32)


def _words(leaf):
    leaf = leaf.reshape(-1)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.concatenate([leaf.real, leaf.imag])
    if leaf.dtype == jnp.bool_ or leaf.dtype.itemsize < 2:
        return leaf.astype(jnp.int32).astype(jnp.uint32)
    unsigned = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).reshape(-1).astype(jnp.uint32)


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
