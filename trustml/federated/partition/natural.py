"""The rows as their owners hold them."""

from typing import Any

import numpy as np
from jaxtyping import Int64


def natural_clients(owner: Any) -> Int64[np.ndarray, " row"]:
    """The client of each row: its owner's number; of names, their places in the alphabet.

    >>> natural_clients([7, -1, 5]).tolist(), natural_clients(["b", "a", "b"]).tolist()
    ([7, -1, 5], [1, 0, 1])

    Args:
      owner: Whose row it is: whole numbers, -1 for nobody's, or names.
    """
    owner = np.asarray(owner)
    if owner.dtype.kind in "iu":
        return owner.astype(np.int64)
    if owner.dtype.kind not in "US":
        raise ValueError(f"`owner` must hold whole numbers or names, got {owner.dtype}.")
    return np.unique(owner, return_inverse=True)[1].astype(np.int64)
