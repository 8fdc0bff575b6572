"""Clients whose rows are alike: clusters of features in place of labels."""

from typing import Any

import numpy as np
from jaxtyping import Int64


def cluster_of_row(features: Any, clusters: int, seed: int) -> Int64[np.ndarray, " row"]:
    """The cluster of each row by k-means, such as of sentence vectors.

    >>> found = cluster_of_row(np.array([[0.0], [9.0], [0.1]]), 2, seed=0)
    >>> bool(found[0] == found[2] != found[1])
    True

    Args:
      features: One vector of finite numbers per row.
      clusters: At most as many as there are different rows.
      seed: From 0 to 2**32 - 1.

    Raises:
      ValueError: `features` are no such vectors, or too few of them differ.
      ModuleNotFoundError: scikit-learn is not installed.

    References:
      Lin et al., FedNLP, 2022: k-means on sentence vectors, then the label partition of clusters.
    """
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "iuf" or not np.isfinite(features).all():
        raise ValueError(
            f"`features` must be a matrix of finite numbers, one row per row of the data, got "
            f"{features.dtype} of shape {features.shape}."
        )
    different = len(np.unique(features, axis=0))
    if clusters > different:
        raise ValueError(
            f"`clusters` must be at most the {different} different rows of `features`, "
            f"got {clusters}."
        )
    means = _kmeans()(clusters, n_init=10, random_state=seed)
    return means.fit_predict(features.astype(np.float64)).astype(np.int64)


def _kmeans():
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise ModuleNotFoundError(
            "The partition `cluster` needs scikit-learn: install trustml-jax[cluster]."
        ) from None
    return KMeans
