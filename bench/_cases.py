"""Networks to measure on: ordinary JAX losses of one example, which know nothing of privacy."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Case(NamedTuple):
    """A loss, its parameters, a batch of examples, and what they are."""

    loss: Callable
    params: Any
    units: Any
    what: str


class _Draw:
    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape):
        fan_in = int(np.prod(shape[:-1]))
        return jnp.asarray(self.rng.normal(size=shape) / np.sqrt(fan_in), jnp.float32)

    def normal(self, *shape):
        return jnp.asarray(self.rng.normal(size=shape), jnp.float32)

    def integers(self, high, *shape):
        return jnp.asarray(self.rng.integers(0, high, shape), jnp.int32)


def cross_entropy(logits, labels):
    """Per position."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)
    return -picked[..., 0]


def mlp(quick: bool) -> Case:
    """784-1024-1024-10."""
    batch, width = (8, 32) if quick else (256, 1024)
    draw = _Draw()
    sizes = (784, width, width, 10)
    params = [{"w": draw.weight(a, b), "b": jnp.zeros(b)} for a, b in itertools.pairwise(sizes)]

    def loss(params, unit):
        x = unit["x"]
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return cross_entropy(x @ params[-1]["w"] + params[-1]["b"], unit["y"])

    units = {"x": draw.normal(batch, 784), "y": draw.integers(10, batch)}
    return Case(loss, params, units, f"MLP {sizes}, batch {batch}")


def cnn(quick: bool) -> Case:
    """Two convolutions and two dense layers on 28x28."""
    batch, channels = (4, 4) if quick else (256, 32)
    draw = _Draw()
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
        x = jax.nn.relu(x + bias)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss(p, unit):
        x = convolved(unit["x"][None], p["c1"], p["b1"])
        x = convolved(x, p["c2"], p["b2"]).reshape(-1)
        return cross_entropy(jax.nn.relu(x @ p["d1"] + p["e1"]) @ p["d2"] + p["e2"], unit["y"])

    units = {"x": draw.normal(batch, 28, 28, 1), "y": draw.integers(10, batch)}
    return Case(
        loss, params, units, f"CNN 28x28, {channels} and {2 * channels} channels, batch {batch}"
    )


def _layer(draw, width):
    zeros, ones = jnp.zeros, jnp.ones
    return {
        **{name: draw.weight(width, width) for name in "qkvo"},
        **{f"b{name}": zeros(width) for name in "qkvo"},
        "scale1": ones(width),
        "shift1": zeros(width),
        "scale2": ones(width),
        "shift2": zeros(width),
        "up": draw.weight(width, 4 * width),
        "bup": zeros(4 * width),
        "down": draw.weight(4 * width, width),
        "bdown": zeros(width),
    }


def _normalised(x, scale, shift):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    spread = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return centred * spread * scale + shift


def _block(x, p, heads, mask):
    time, width = x.shape
    y = _normalised(x, p["scale1"], p["shift1"])
    q, k, v = ((y @ p[n] + p[f"b{n}"]).reshape(time, heads, -1) for n in "qkv")
    scores = jnp.einsum("thd,shd->hts", q, k) / np.sqrt(width / heads)
    if mask is not None:
        scores = jnp.where(mask, scores, -1e9)
    mixed = jnp.einsum("hts,shd->thd", jax.nn.softmax(scores), v).reshape(time, width)
    x = x + mixed @ p["o"] + p["bo"]
    y = _normalised(x, p["scale2"], p["shift2"])
    return x + jax.nn.gelu(y @ p["up"] + p["bup"]) @ p["down"] + p["bdown"]


def _transformer(quick, *, batch=32, time=64, width=256, layers=4, heads=4, vocabulary=8000):
    if quick:
        batch, time, width, layers, vocabulary = 4, 8, 16, 1, 50
    draw = _Draw()
    params = {
        "embedding": 0.02 * draw.normal(vocabulary, width),
        "position": 0.02 * draw.normal(time, width),
        "layers": [_layer(draw, width) for _ in range(layers)],
    }
    what = f"{layers} layers of {width}, {time} tokens, vocabulary {vocabulary}, batch {batch}"
    tokens = draw.integers(vocabulary, batch, time)
    return draw, params, tokens, heads, what


def bert(quick: bool, **sizes) -> Case:
    """BERT-style encoder with a classifier on the first token."""
    draw, params, tokens, heads, what = _transformer(quick, **sizes)
    params["head"] = draw.weight(params["position"].shape[1], 10)

    def loss(p, unit):
        x = p["embedding"][unit["x"]] + p["position"]
        for layer in p["layers"]:
            x = _block(x, layer, heads, None)
        return cross_entropy(x[0] @ p["head"], unit["y"])

    units = {"x": tokens, "y": draw.integers(10, len(tokens))}
    return Case(loss, params, units, f"BERT-style: {what}")


def gpt(quick: bool, **sizes) -> Case:
    """GPT-style decoder, output tied to the embedding."""
    _, params, tokens, heads, what = _transformer(quick, **sizes)
    causal = jnp.tril(jnp.ones((tokens.shape[1], tokens.shape[1]), bool))

    def loss(p, tokens):
        x = p["embedding"][tokens] + p["position"]
        for layer in p["layers"]:
            x = _block(x, layer, heads, causal)
        return jnp.mean(cross_entropy((x @ p["embedding"].T)[:-1], tokens[1:]))

    return Case(loss, params, tokens, f"GPT-style, tied: {what}")


def bert_base(quick: bool) -> Case:
    """BERT-base sizes: 12 layers of 768."""
    return bert(quick, batch=4, time=128, width=768, layers=12, heads=12, vocabulary=30_000)


CASES = {"mlp": mlp, "cnn": cnn, "bert": bert, "gpt": gpt, "bert-base": bert_base}
