"""Networks on images, which are [channel, height, width]."""

import math

from torch import nn
from torch.nn import functional

from .base import Leaf, convolution, dense, per_example


class Mlp(nn.Module):
    """Dense layers."""

    def __init__(self, shapes):
        super().__init__()
        layers = range(len(shapes) // 2)
        self.layers = nn.ModuleList(nn.Linear(*shapes[f"{index}/w"]) for index in layers)
        self.names = [dense(f"{i}/w", f"layers.{i}") for i in layers]
        self.names += [Leaf(f"{i}/b", f"layers.{i}.bias") for i in layers]

    def forward(self, units):
        x = units["x"]
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return per_example(self.layers[-1](x), units["y"])


class Cnn(nn.Module):
    """Two convolutions and two dense layers on 28x28; images are [channel, height, width]."""

    def __init__(self, shapes):
        super().__init__()
        channels, inner = shapes["c2"][-2:]
        self.c1 = nn.Conv2d(1, channels, 3, padding=1)
        self.c2 = nn.Conv2d(channels, inner, 3, padding=1)
        self.d1 = nn.Linear(*shapes["d1"])
        self.d2 = nn.Linear(*shapes["d2"])
        flat = shapes["d1"][1]
        self.names = [
            convolution("c1", "c1"),
            convolution("c2", "c2"),
            Leaf("d1", "d1.weight", (7, 7, inner, flat), (3, 2, 0, 1)),
            dense("d2", "d2"),
            *(Leaf(f"{a}{i}", f"{b}{i}.bias") for a, b in ("bc", "ed") for i in (1, 2)),
        ]

    def forward(self, units):
        x = functional.max_pool2d(functional.relu(self.c1(units["x"])), 2)
        x = functional.max_pool2d(functional.relu(self.c2(x)), 2).flatten(1)
        return per_example(self.d2(functional.relu(self.d1(x))), units["y"])


class PflCnn(nn.Module):
    """Two convolutions without padding, one pool, two dense layers."""

    def __init__(self, shapes):
        super().__init__()
        *_, colours, channels = shapes["c1"]
        self.c1 = nn.Conv2d(colours, channels, 3)
        self.c2 = nn.Conv2d(channels, 2 * channels, 3)
        flat, inner = shapes["d1"]
        side = math.isqrt(flat // (2 * channels))
        self.d1, self.d2 = nn.Linear(flat, inner), nn.Linear(*shapes["d2"])
        self.names = [
            convolution("c1", "c1"),
            convolution("c2", "c2"),
            Leaf("d1", "d1.weight", (side, side, 2 * channels, inner), (3, 2, 0, 1)),
            dense("d2", "d2"),
            *(Leaf(f"{a}{i}", f"{b}{i}.bias") for a, b in ("bc", "ed") for i in (1, 2)),
        ]

    def forward(self, units):
        x = functional.relu(self.c2(functional.relu(self.c1(units["x"]))))
        x = functional.relu(self.d1(functional.max_pool2d(x, 2).flatten(1)))
        return per_example(self.d2(x), units["y"])


class _Normed(nn.Module):
    def __init__(self, shape, stride=1):
        super().__init__()
        size, _, before, after = shape
        self.kernel = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(8, after)

    def forward(self, x):
        return self.norm(self.kernel(x))


class _BasicBlock(nn.Module):
    def __init__(self, shapes, name):
        super().__init__()
        short = shapes.get(f"{name}/short/kernel")
        self.a = _Normed(shapes[f"{name}/a/kernel"], 2 if short else 1)
        self.b = _Normed(shapes[f"{name}/b/kernel"])
        self.short = _Normed(short, 2) if short else nn.Identity()

    def forward(self, x):
        return functional.relu(self.short(x) + self.b(functional.relu(self.a(x))))


class ResNet(nn.Module):
    """A stem, stages of basic blocks, GroupNorm."""

    def __init__(self, shapes):
        super().__init__()
        kernels = [name for name in shapes if name.endswith("/kernel")]
        blocks = sorted({"/".join(name.split("/")[:3]) for name in kernels if "stages" in name})
        self.stem = _Normed(shapes["stem/kernel"])
        self.blocks = nn.ModuleList(_BasicBlock(shapes, name) for name in blocks)
        self.head = nn.Linear(*shapes["head/w"])
        self.names = [dense("head/w", "head"), Leaf("head/b", "head.bias")]
        places = {name: f"blocks.{index}" for index, name in enumerate(blocks)} | {"stem": "stem"}
        for kernel in kernels:
            name = kernel.removesuffix("/kernel")
            block, _, part = name.rpartition("/") if name != "stem" else (name, "", "")
            place = f"{places[block]}.{part}".rstrip(".")
            self.names += [
                convolution(kernel, f"{place}.kernel"),
                Leaf(f"{name}/scale", f"{place}.norm.weight"),
                Leaf(f"{name}/shift", f"{place}.norm.bias"),
            ]

    def forward(self, units):
        x = functional.relu(self.stem(units["x"]))
        for block in self.blocks:
            x = block(x)
        return per_example(self.head(x.mean((2, 3))), units["y"])
