"""Random numbers on the host: each stream is a function of a seed, a round and a purpose alone."""

import hashlib

import numpy as np

from trustml.federated.validation import check_whole
from trustml.sampling import secret_from_seed

_DOMAIN = b"trustml federated stream, version 1\x00"


def stream(seed: int | bytes, round: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose in one round, whatever was drawn before.

    Value number k of `stream(...).random(n)` does not depend on n: it belongs to client k.

    >>> a, b = stream(0, 3, "selection").random(2), stream(0, 3, "selection").random(5)
    >>> bool((a == b[:2]).all()), bool((a == stream(0, 4, "selection").random(2)).any())
    (True, False)

    Args:
      seed: A whole number, repeatable for whoever guesses it, or 32 secret bytes.
      round: The round or step, from 0.
      purpose: What the numbers are for; two purposes are unrelated.

    Raises:
      ValueError: `round` or `seed` is negative.
      TypeError: One of them is no whole number.
    """
    secret = seed if isinstance(seed, bytes) else secret_from_seed(seed)
    number = check_whole("round", round, least=0)
    digest = hashlib.sha256(_DOMAIN + secret + number.to_bytes(8, "little") + purpose.encode())
    entropy = np.random.SeedSequence(int.from_bytes(digest.digest(), "little"), pool_size=8)
    return np.random.Generator(np.random.Philox(entropy))
