"""The networks of `_cases` as PyTorch modules, by weights that a JAX process wrote.

`forward` takes a dictionary of tensors and returns one loss per example, as Opacus needs them.
`names` says which JAX leaf is which tensor, so that weights go one way and sums the other.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .text import BiLstm, Lstm, Transformer
from .vision import Cnn, Mlp, PflCnn, ResNet


def _heads(width):
    return 12 if width == 768 else 4


def build(case: str, arrays: dict[str, np.ndarray], *, opacus: bool) -> nn.Module:
    """The module of a case with the weights in `arrays`; for Opacus by its own layers.

    Args:
      case: Its name in `_cases.CASES`.
      arrays: JAX leaves by name.
      opacus: Whether layers that Opacus replaces (LSTM) are its own.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    net = _BUILDERS[case](shapes, opacus)
    values = dict(net.named_parameters())
    with torch.no_grad():
        for leaf in net.names:
            values[leaf.torch].copy_(leaf.to_torch(arrays[leaf.jax], values[leaf.torch]))
    return net.train()


def _bilstm(shapes, opacus):
    if not opacus:
        return BiLstm(shapes)
    from opacus.layers import DPLSTM

    return BiLstm(shapes, DPLSTM)


def _transformer(kind) -> Callable:
    return lambda shapes, _: Transformer(shapes, _heads(_width(shapes)), kind)


def _width(shapes):
    return next(shape[1] for name, shape in shapes.items() if name.endswith("embedding"))


_BUILDERS: dict[str, Callable] = {
    "mlp": lambda shapes, _: Mlp(shapes),
    "cnn": lambda shapes, _: Cnn(shapes),
    "pfl-cnn": lambda shapes, _: PflCnn(shapes),
    "lstm": lambda shapes, _: Lstm(shapes),
    "resnet": lambda shapes, _: ResNet(shapes),
    "bilstm": _bilstm,
    "bert": _transformer("bert"),
    "gpt": _transformer("gpt"),
    "gpt-untied": _transformer("gpt-untied"),
    "lora": _transformer("lora"),
    "bert-base": _transformer("bert"),
    "gpt2-small": _transformer("gpt"),
}


def tensors(units: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A batch: images with the channel first, integers of 64 bits."""
    found = {}
    for name, array in units.items():
        if array.ndim == 4:
            array = array.transpose(0, 3, 1, 2).copy()  # one channel is no channels-last view
        value = torch.from_numpy(array)
        found[name] = value if value.is_floating_point() else value.long()
    return found
