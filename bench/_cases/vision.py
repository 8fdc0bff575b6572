"""Networks on images, one image at a time."""

import itertools

import jax
import jax.numpy as jnp

from .base import Case, Draw, cross_entropy

GROUPS = 8  # of channels that GroupNorm normalises together


def mlp(quick: bool) -> Case:
    """784-1024-1024-10."""
    batch, width = (8, 32) if quick else (256, 1024)
    return dense_layers((784, width, width, 10), batch)


def dense_layers(sizes: tuple[int, ...], batch: int) -> Case:
    """A network of dense layers."""
    draw = Draw()
    params = [{"w": draw.weight(a, b), "b": jnp.zeros(b)} for a, b in itertools.pairwise(sizes)]

    def loss(params, unit):
        x = unit["x"]
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return cross_entropy(x @ params[-1]["w"] + params[-1]["b"], unit["y"])

    units = {"x": draw.normal(batch, sizes[0]), "y": draw.integers(sizes[-1], batch)}
    return Case(loss, params, units, f"MLP {sizes}, batch {batch}")


def _pooled(x):
    """Largest of each 2x2; by `reduce_window` the whole step took twice as long on a CPU."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def cnn(quick: bool) -> Case:
    """Two convolutions and two dense layers on 28x28."""
    batch, channels = (4, 4) if quick else (256, 32)
    draw = Draw()
    params = {
        "c1": draw.weight(3, 3, 1, channels),
        "b1": jnp.zeros(channels),
        "c2": draw.weight(3, 3, channels, 2 * channels),
        "b2": jnp.zeros(2 * channels),
        "d1": draw.weight(49 * 2 * channels, 128),
        "e1": jnp.zeros(128),
        "d2": draw.weight(128, 10),
        "e2": jnp.zeros(10),
    }

    def convolved(x, kernel, bias):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return _pooled(jax.nn.relu(x + bias))

    def loss(p, unit):
        x = convolved(unit["x"][None], p["c1"], p["b1"])
        x = convolved(x, p["c2"], p["b2"]).reshape(-1)
        return cross_entropy(jax.nn.relu(x @ p["d1"] + p["e1"]) @ p["d2"] + p["e2"], unit["y"])

    units = {"x": draw.normal(batch, 28, 28, 1), "y": draw.integers(10, batch)}
    return Case(
        loss, params, units, f"CNN 28x28, {channels} and {2 * channels} channels, batch {batch}"
    )


def pfl_cnn(side: int, channels: int, batch: int) -> Case:
    """The network of pfl's benchmark on CIFAR-10, without its dropout: no padding, one pool."""
    draw = Draw()
    flat = ((side - 4) // 2) ** 2 * 2 * channels
    params = {
        "c1": draw.weight(3, 3, 3, channels),
        "b1": jnp.zeros(channels),
        "c2": draw.weight(3, 3, channels, 2 * channels),
        "b2": jnp.zeros(2 * channels),
        "d1": draw.weight(flat, 128),
        "e1": jnp.zeros(128),
        "d2": draw.weight(128, 10),
        "e2": jnp.zeros(10),
    }

    def convolved(x, kernel, bias):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(x + bias)

    def loss(p, unit):
        x = convolved(convolved(unit["x"][None], p["c1"], p["b1"]), p["c2"], p["b2"])
        x = jax.nn.relu(_pooled(x).reshape(-1) @ p["d1"] + p["e1"])
        return cross_entropy(x @ p["d2"] + p["e2"], unit["y"])

    units = {"x": draw.normal(batch, side, side, 3), "y": draw.integers(10, batch)}
    return Case(loss, params, units, f"pfl's CNN, {side}x{side}, {channels} channels")


def resnet(quick: bool) -> Case:
    """ResNet-14 on 32x32: a stem, three stages of two basic blocks, GroupNorm."""
    batch, side, blocks, widths = (3, 8, 1, (8, 16)) if quick else (64, 32, 2, (32, 64, 128))
    draw = Draw()

    def normed(channels_in, channels, size=3):
        """A convolution without bias and the GroupNorm after it."""
        return {
            "kernel": draw.weight(size, size, channels_in, channels),
            "scale": jnp.ones(channels),
            "shift": jnp.zeros(channels),
        }

    stages, before = [], widths[0]
    for width in widths:
        stage = []
        for _ in range(blocks):
            block = {"a": normed(before, width), "b": normed(width, width)}
            if before != width:
                block["short"] = normed(before, width, 1)
            stage.append(block)
            before = width
        stages.append(stage)
    params = {
        "stem": normed(3, widths[0]),
        "stages": stages,
        "head": {"w": draw.weight(widths[-1], 10), "b": jnp.zeros(10)},
    }

    def loss(p, unit):
        x = jax.nn.relu(_normed(unit["x"], p["stem"]))
        for stage in p["stages"]:
            for block in stage:
                x = _basic_block(x, block)
        return cross_entropy(jnp.mean(x, axis=(0, 1)) @ p["head"]["w"] + p["head"]["b"], unit["y"])

    units = {"x": draw.normal(batch, side, side, 3), "y": draw.integers(10, batch)}
    what = f"ResNet {side}x{side}, GroupNorm, stages {widths}, {blocks} blocks each, batch {batch}"
    return Case(loss, params, units, what)


def _basic_block(x, p):
    stride = 2 if "short" in p else 1
    short = _normed(x, p["short"], stride) if "short" in p else x
    x = jax.nn.relu(_normed(x, p["a"], stride))
    return jax.nn.relu(short + _normed(x, p["b"]))


def _normed(x, p, stride=1):
    """Convolution and GroupNorm of one image, [height, width, channel]."""
    reach = p["kernel"].shape[0] // 2
    x = jax.lax.conv_general_dilated(
        x[None],
        p["kernel"],
        (stride, stride),
        [(reach, reach)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]
    groups = x.reshape(*x.shape[:2], GROUPS, -1)
    centred = groups - jnp.mean(groups, axis=(0, 1, 3), keepdims=True)
    spread = jax.lax.rsqrt(jnp.mean(centred**2, axis=(0, 1, 3), keepdims=True) + 1e-5)
    return (centred * spread).reshape(x.shape) * p["scale"] + p["shift"]
