"""Noise keys: fresh ones, those of a seed, and a check."""

import hashlib
import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

# The domain makes noise and draws of one seed unrelated: `trustml.sampling` has another.
_SEED_DOMAIN = b"trustml noise key from a seed, version 1\x00"


def new_key() -> UInt32[Array, "8"]:
    """A fresh noise key: 256 bits from the operating system. Keep it secret.

    >>> new_key().shape, bool((new_key() == new_key()).all())
    ((8,), False)
    """
    # Who can guess a noisy sum tries keys until the noise fits, and then knows that of every step.
    # 2^64 tries, all keys of jax.random, are within reach; 2^256 are not.
    return jnp.asarray(np.frombuffer(os.urandom(32), dtype="<u4").astype(np.uint32))


def key_from_seed(seed: int) -> UInt32[Array, "8"]:
    """The noise key of `seed`, for tests and for runs that must be repeatable.

    >>> bool((key_from_seed(7) == key_from_seed(7)).all())
    True

    Guarantee:
      None against somebody who can guess `seed`: they regenerate the noise, subtract it, and no
      epsilon holds. A run with such a key is reproducible, not private, unless the seed itself
      is a secret of at least 128 random bits.

    Raises:
      TypeError: `seed` is not an integer.
      ValueError: `seed` is negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"`seed` must be an integer, got {type(seed).__name__}.")
    if seed < 0:
        raise ValueError(f"`seed` must not be negative, got {seed}.")
    digits = int(seed).to_bytes((int(seed).bit_length() + 7) // 8 or 1, "little")
    words = np.frombuffer(hashlib.sha256(_SEED_DOMAIN + digits).digest(), dtype="<u4")
    return jnp.asarray(words.astype(np.uint32))


def check_key(key: UInt32[Array, "8"]) -> UInt32[Array, "8"]:
    """`key` itself, if it is a 256-bit noise key.

    >>> check_key(jax.random.key(0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: `key` must be 256 bits, got a jax.random key...

    Raises:
      TypeError: It is something else, such as a `jax.random` key, whose 64 bits can be searched.
    """
    way_out = "Use `trustml.noise.new_key()`, or `key_from_seed(seed)` for a repeatable run."
    if hasattr(key, "dtype") and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(f"`key` must be 256 bits, got a jax.random key ({key.dtype}). {way_out}")
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"`key` must be uint32[8], got {type(key).__name__}. {way_out}")
    if key.shape != (8,) or key.dtype != jnp.uint32:
        raise TypeError(
            f"`key` must be uint32[8] (256 bits), got {key.dtype}{list(key.shape)}. {way_out}"
        )
    return jnp.asarray(key)
