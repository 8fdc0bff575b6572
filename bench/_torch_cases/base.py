"""Tensors of the JAX leaves, and the loss of each example."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional


class Leaf(NamedTuple):
    """One trained or frozen tensor: its name there and here, and the axes' order here and back."""

    jax: str
    torch: str
    shape: tuple[int, ...] | None = None  # of the JAX leaf before its axes change
    axes: tuple[int, ...] | None = None

    def to_torch(self, array: np.ndarray, like: torch.Tensor) -> torch.Tensor:
        whole = array.reshape(self.shape) if self.shape else array
        moved = whole.transpose(self.axes) if self.axes else whole
        return torch.from_numpy(np.ascontiguousarray(moved)).reshape(like.shape)

    def to_jax(self, tensor: torch.Tensor, like: np.ndarray) -> np.ndarray:
        array = tensor.detach().numpy()
        if self.axes is None:
            return array.reshape(like.shape)
        shape = self.shape or like.shape
        moved = array.reshape([shape[axis] for axis in self.axes])
        return moved.transpose(np.argsort(self.axes)).reshape(like.shape)


def dense(jax: str, torch: str) -> Leaf:
    return Leaf(jax, f"{torch}.weight", axes=(1, 0))


def convolution(jax: str, torch: str) -> Leaf:
    return Leaf(jax, f"{torch}.weight", axes=(3, 2, 0, 1))


def per_example(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, averaged over an example's positions where it has several."""
    if logits.ndim == 2:
        return functional.cross_entropy(logits, labels, reduction="none")
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return losses.mean(1)
