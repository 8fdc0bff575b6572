"""How far the participations of one unit can move C x, in l2 norm."""

import numpy as np
from jaxtyping import Float64

from trustml.noise.matrix_factorization.series import repeated


def toeplitz_sensitivity(
    coefficients: Float64[np.ndarray, " n"], participations: int, min_separation: int
) -> float:
    """Sensitivity of a lower-triangular Toeplitz C whose first column is `coefficients`.

    Guarantee:
      Exact, where the coefficients are not negative and do not grow. Then the columns have no
      negative inner products, so that contributions in one direction are the worst and further
      ones never help; and the inner product of columns s < t falls with t - s and, as columns end
      with the last step, with t. The worst pattern therefore begins at the first step and repeats
      as soon as it may.

    References:
      McMahan, Xu, Zhang, A hassle-free algorithm for strong differential privacy in federated
      learning systems (the BLT mechanism), 2024. Kalinin, Lampert, Banded square root matrix
      factorization for differentially private model training, 2024.
    """
    return float(np.linalg.norm(repeated(coefficients, participations, min_separation)))


def tree_sensitivity(steps: int, participations: int, min_separation: int) -> float:
    """Sensitivity of the binary tree over `steps` steps, at most.

    Guarantee:
      Exact for one participation, which the first step's floor(log2 steps) + 1 nodes attain. For
      more it is an upper bound: the squared norm is the sum over nodes of the squared number of
      the unit's steps below the node. On level l the nodes that are used are disjoint, as many as
      there are odd multiples of 2^l up to `steps`, and hold ceil(2^l / min_separation) of the
      unit's steps at most; the sum of squares is largest where as many as possible are full.
      Levels are bounded one by one, although no unit may attain all of these bounds at once.
    """
    squared = 0
    for level in range(steps.bit_length()):
        nodes = (steps // 2**level + 1) // 2
        most = min(participations, -(-(2**level) // min_separation))
        full = min(nodes, participations // most)
        rest = participations - full * most if full < nodes else 0
        squared += full * most**2 + rest**2
    return float(np.sqrt(squared))


def possible(steps: int, participations: int, min_separation: int) -> int:
    """How often a unit can take part in `steps` steps: `participations` at most."""
    return min(participations, -(-steps // min_separation))


def check_count(name: str, value: int) -> None:
    """Refuses a value that is no positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if not (value >= 1):
        raise ValueError(f"`{name}` must be at least 1, got {value!r}.")
