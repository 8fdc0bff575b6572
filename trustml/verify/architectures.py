"""Small networks of every kind that the fast path promises to be exact on.

Each entry makes `(loss, params, units, options)`: a loss of one unit, parameters, a batch of units
and options for `clipped_grad`. The verify command and the tests run the same table.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_UNITS = 5


class Case(NamedTuple):
    """One network to compare on."""

    loss: Callable
    params: Any
    units: Any
    key: Any = None  # per-unit randomness
    options: dict = {}  # noqa: RUF012 - never changed
    tolerance: float = 1e-5


ARCHITECTURES: dict[str, Callable[[], Case]] = {}


def _register(make):
    ARCHITECTURES[make.__name__.strip("_")] = make
    return make


def names() -> list[str]:
    """Architectures that can run here; those of an optional package need it installed."""
    missing = importlib.util.find_spec("equinox") is None
    return [name for name in ARCHITECTURES if not (missing and name.startswith("equinox"))]


class _Weights:
    """Draws small random arrays in order; by NumPy, which compiles nothing."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape, scale=0.5):
        return jnp.asarray(scale * self.rng.normal(size=shape), jnp.float32)

    def integers(self, high, *shape):
        return jnp.asarray(self.rng.integers(0, high, shape), jnp.int32)


def _cross_entropy(logits, label):
    return -jnp.take(jax.nn.log_softmax(logits), label)


def _normalised(x):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def _attention(q, k, v, mask=None):
    scores = q @ k.T / jnp.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -1e9)
    return jax.nn.softmax(scores, axis=-1) @ v


def _block_weights(w, width, lead=()):
    return {
        "qkv": w(*lead, width, 3 * width),
        "out": w(*lead, width, width),
        "scale": 1 + w(*lead, width),
        "bias": w(*lead, width),
        "up": w(*lead, width, 2 * width),
        "down": w(*lead, 2 * width, width),
    }


def _block(x, p, mask=None):
    q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
    x = x + _attention(q, k, v, mask) @ p["out"]
    y = _normalised(x) * p["scale"][None] + p["bias"][None]
    return x + jax.nn.gelu(y @ p["up"]) @ p["down"]


@_register
def mlp():
    w = _Weights()
    params = {"w1": w(8, 16), "b1": w(16), "w2": w(16, 4), "b2": w(4)}

    def loss(p, unit):
        hidden = jax.nn.relu(unit["x"] @ p["w1"] + p["b1"])
        return _cross_entropy(hidden @ p["w2"] + p["b2"], unit["y"])

    return Case(loss, params, {"x": w(_UNITS, 8), "y": w.integers(4, _UNITS)})


def _conv_case(kernel, image, **options):
    w = _Weights()
    params = {"k": w(*kernel), "b": w(kernel[-1])}

    def loss(p, x):
        out = jax.lax.conv_general_dilated(x[None], p["k"], **options)[0]
        return jnp.sum(jax.nn.tanh(out + p["b"].reshape((1,) * (out.ndim - 1) + (-1,))) ** 2)

    return Case(loss, params, w(_UNITS, *image))


_NHWC = ("NHWC", "HWIO", "NHWC")


@_register
def conv_stride():
    return _conv_case(
        (3, 3, 2, 4), (9, 8, 2), window_strides=(2, 1), padding="SAME", dimension_numbers=_NHWC
    )


@_register
def conv_dilation():
    return _conv_case(
        (3, 2, 2, 4),
        (9, 8, 2),
        window_strides=(1, 1),
        padding="VALID",
        rhs_dilation=(2, 3),
        dimension_numbers=_NHWC,
    )


@_register
def conv_groups():
    return _conv_case(
        (3, 3, 2, 6),
        (7, 7, 4),
        window_strides=(1, 1),
        padding="SAME",
        feature_group_count=2,
        dimension_numbers=_NHWC,
    )


@_register
def conv_transpose():
    w = _Weights()

    def loss(p, x):
        out = jax.lax.conv_transpose(x[None], p, (2, 2), "SAME", dimension_numbers=_NHWC)
        return jnp.sum(jnp.sin(out))

    return Case(loss, w(3, 3, 2, 4), w(_UNITS, 5, 4, 2))


@_register
def conv_1d():
    return _conv_case(
        (5, 3, 4),
        (12, 3),
        window_strides=(1,),
        padding="SAME",
        dimension_numbers=("NHC", "HIO", "NHC"),
    )


@_register
def conv_channels_first():
    w = _Weights()

    def loss(p, x):
        return jnp.sum(jnp.sin(jax.lax.conv(x[None], p, (1, 2), "SAME")))

    return Case(loss, w(4, 2, 3, 3), w(_UNITS, 2, 6, 7))


def _lstm_cell(p, carry, x):
    hidden, cell = carry
    gates = x @ p["wx"] + hidden @ p["wh"] + p["b"]
    i, f, g, o = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return (hidden, cell), hidden


@_register
def lstm_both_directions():
    w = _Weights()
    width = 4
    cell = lambda: {"wx": w(3, 4 * width), "wh": w(width, 4 * width), "b": w(4 * width)}  # noqa: E731
    params = {"forward": cell(), "backward": cell(), "start": w(width), "head": w(2 * width, 3)}

    def loss(p, unit):
        start = (p["start"], jnp.zeros(width))
        there = jax.lax.scan(functools.partial(_lstm_cell, p["forward"]), start, unit["x"])[1]
        back = jax.lax.scan(
            functools.partial(_lstm_cell, p["backward"]), start, unit["x"], reverse=True
        )[1]
        logits = jnp.concatenate([there, back], axis=-1) @ p["head"]
        return jnp.mean(jax.vmap(_cross_entropy)(logits, unit["y"]))

    return Case(loss, params, {"x": w(_UNITS, 6, 3), "y": w.integers(3, _UNITS, 6)})


@_register
def gru():
    w = _Weights()
    width = 4
    params = {"wx": w(3, 3 * width), "wh": w(width, 3 * width), "b": w(3 * width)}

    def cell(p, hidden, x):
        xz, xr, xn = jnp.split(x @ p["wx"] + p["b"], 3)
        hz, hr, hn = jnp.split(hidden @ p["wh"], 3)
        update, reset = jax.nn.sigmoid(xz + hz), jax.nn.sigmoid(xr + hr)
        hidden = (1 - update) * jnp.tanh(xn + reset * hn) + update * hidden
        return hidden, hidden

    def loss(p, x):
        return jnp.sum(jax.lax.scan(functools.partial(cell, p), jnp.zeros(width), x)[1] ** 2)

    return Case(loss, params, w(_UNITS, 6, 3))


def _language_model(tied: bool, scanned: bool, remat: bool = False):
    w = _Weights()
    width, vocabulary, layers = 8, 11, 3
    block = functools.partial(_block_weights, w, width)
    params = {
        "embedding": w(vocabulary, width),
        "position": w(6, width),
        "layers": block((layers,)) if scanned else [block() for _ in range(layers)],
    }
    if not tied:
        params["head"] = w(width, vocabulary)
    causal = jnp.tril(jnp.ones((6, 6), bool))
    run = jax.checkpoint(_block) if remat else _block

    def loss(p, tokens):
        x = p["embedding"][tokens] + p["position"]
        if scanned:
            x = jax.lax.scan(lambda x, layer: (run(x, layer, causal), None), x, p["layers"])[0]
        else:
            for layer in p["layers"]:
                x = run(x, layer, causal)
        logits = x @ (p["embedding"].T if tied else p["head"])
        return jnp.mean(jax.vmap(_cross_entropy)(logits[:-1], tokens[1:]))

    return Case(loss, params, w.integers(vocabulary, _UNITS, 6))


@_register
def transformer():
    return _language_model(tied=False, scanned=False)


@_register
def transformer_scanned():
    return _language_model(tied=False, scanned=True)


@_register
def transformer_remat():
    return _language_model(tied=False, scanned=False, remat=True)


@_register
def transformer_scanned_remat():
    return _language_model(tied=True, scanned=True, remat=True)


@_register
def tied_embedding():
    return _language_model(tied=True, scanned=False)


@_register
def table_used_twice():
    w = _Weights()

    def loss(p, unit):
        premise = jnp.mean(p["table"][unit["a"]], axis=0)
        other = jnp.mean(jnp.take(p["table"], unit["b"], axis=0), axis=0)
        return jnp.tanh(premise @ p["w"] @ other)

    return Case(
        loss,
        {"table": w(9, 4), "w": w(4, 4)},
        {"a": w.integers(9, _UNITS, 5), "b": w.integers(9, _UNITS, 3)},
    )


def _norm_case(normalise):
    w = _Weights()
    params = {"w": w(6, 8), "scale": 1 + w(8), "bias": w(8)}

    def loss(p, x):
        return jnp.sum(jnp.tanh(normalise(x @ p["w"]) * p["scale"][None] + p["bias"][None]))

    return Case(loss, params, w(_UNITS, 4, 6))


@_register
def layer_norm():
    return _norm_case(_normalised)


@_register
def rms_norm():
    return _norm_case(lambda x: x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6))


@_register
def group_norm():
    return _norm_case(lambda x: _normalised(x.reshape(4, 2, 4)).reshape(4, 8))


@_register
def masked_attention():
    w = _Weights()
    params = _block_weights(w, 8)

    def loss(p, unit):
        mask = jnp.broadcast_to(unit["mask"][None], (5, 5))
        out = _block(unit["x"], p, mask)
        return jnp.sum(jnp.where(unit["mask"][:, None], out, 0.0) ** 2)

    mask = jnp.arange(5)[None] < jnp.arange(1, _UNITS + 1)[:, None]
    return Case(loss, params, {"x": w(_UNITS, 5, 8), "mask": mask})


@_register
def dropout_with_unit_keys():
    w = _Weights()

    def loss(p, x, key):
        hidden = jnp.tanh(x @ p["w1"])
        hidden = jnp.where(jax.random.bernoulli(key, 0.5, hidden.shape), 2 * hidden, 0.0)
        return jnp.sum((hidden @ p["w2"]) ** 2)

    params = {"w1": w(6, 12), "w2": w(12, 3)}
    return Case(loss, params, w(_UNITS, 6), key=jax.random.key(7))


@_register
def embedding_sum():
    w = _Weights()

    def loss(p, unit):
        x = p["word"][unit["word"]] + p["kind"][unit["kind"]] + p["position"]
        return jnp.sum(jnp.tanh(x @ p["w"]))

    params = {"word": w(9, 4), "kind": w(2, 4), "position": w(5, 4), "w": w(4, 3)}
    return Case(loss, params, {"word": w.integers(9, _UNITS, 5), "kind": w.integers(2, _UNITS, 5)})


@_register
def per_head_einsum():
    w = _Weights()

    def loss(p, x):
        q = jnp.einsum("td,hde->hte", x, p["q"])
        k = jnp.einsum("td,dhe->hte", x, p["k"])
        mixed = jnp.einsum("hts,hse->hte", jax.nn.softmax(jnp.einsum("hte,hse->hts", q, k)), q)
        return jnp.sum(jnp.tanh(jnp.einsum("hte,hed->td", mixed, p["o"])))

    return Case(loss, {"q": w(2, 6, 3), "k": w(6, 2, 3), "o": w(2, 3, 6)}, w(_UNITS, 4, 6))


@_register
def mixture_of_experts():
    w = _Weights()

    def loss(p, x):
        gate = jax.nn.softmax(x @ p["gate"], axis=-1)
        each = jax.nn.relu(jnp.einsum("td,edh->eth", x, p["up"]))
        soft = jnp.einsum("te,eth,ehd->td", gate, each, p["down"])
        top = jnp.argmax(gate, axis=-1)
        hard = jax.vmap(lambda row, expert: row @ p["hard"][expert])(x, top)
        return jnp.sum(jnp.tanh(soft + hard))

    params = {"gate": w(5, 3), "up": w(3, 5, 7), "down": w(3, 7, 5), "hard": w(3, 5, 5)}
    return Case(loss, params, w(_UNITS, 4, 5))


@_register
def lora():
    w = _Weights()
    params = {"base": w(8, 6), "a": w(8, 2), "b": w(2, 6)}

    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ p["base"] + x @ p["a"] @ p["b"]))

    return Case(loss, params, w(_UNITS, 3, 8), options={"trainable": lambda name: name != "base"})


@_register
def lora_merged():
    w = _Weights()
    params = {"base": w(8, 6), "a": w(8, 2), "b": w(2, 6)}

    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ (p["base"] + p["a"] @ p["b"])))

    return Case(loss, params, w(_UNITS, 3, 8), options={"trainable": lambda name: name != "base"})


@_register
def weight_norm():
    w = _Weights()

    def loss(p, x):
        direction = p["v"] / jnp.linalg.norm(p["v"], axis=0, keepdims=True)
        return jnp.sum(jnp.tanh(x @ (direction * p["g"][None])))

    return Case(loss, {"v": w(6, 4), "g": w(4)}, w(_UNITS, 3, 6))


@_register
def spectral_norm():
    w = _Weights()

    def loss(p, x):
        def power(_, vector):
            vector = p @ (p.T @ vector)
            return vector / jnp.linalg.norm(vector)

        vector = jax.lax.fori_loop(0, 4, power, jnp.ones(6) / 6)
        return jnp.sum(jnp.tanh(x @ (p / jnp.linalg.norm(p.T @ vector))))

    return Case(loss, w(6, 4), w(_UNITS, 3, 6))


@_register
def weight_slices():
    w = _Weights()

    def loss(p, x):
        left, right = p["w"][:, :3], p["w"][:, 3:]
        return jnp.sum(jnp.tanh(x @ left)) + jnp.sum(jnp.sin(x @ right @ p["stack"][1]))

    return Case(loss, {"w": w(6, 7), "stack": w(2, 4, 3)}, w(_UNITS, 3, 6))


@_register
def weight_slices_overlapping():
    w = _Weights()

    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ p[:, :4])) + jnp.sum(jnp.sin(x @ p[:, 2:])) + jnp.sum(p[0] ** 2)

    return Case(loss, w(6, 7), w(_UNITS, 3, 6))


@_register
def shared_weight_with_penalty():
    w = _Weights()

    def loss(p, x):
        for _ in range(3):
            x = jnp.tanh(x @ p["w"])
        return jnp.sum(x) + 0.1 * jnp.sum(p["w"] ** 2) + jnp.sum(p["w"].T @ p["w"])

    return Case(loss, {"w": w(5, 5)}, w(_UNITS, 3, 5))


@_register
def unused_frozen_and_integer_leaves():
    w = _Weights()
    params = {
        "w": w(6, 4),
        "unused": w(3),
        "frozen": w(4, 4),
        "count": jnp.arange(4),
        "stopped": w(4),
    }

    def loss(p, x):
        hidden = jnp.tanh(x @ p["w"] @ p["frozen"]) + jax.lax.stop_gradient(p["stopped"])
        return jnp.sum(hidden[p["count"] % 2] ** 2)

    return Case(loss, params, w(_UNITS, 6), options={"trainable": lambda name: name != "frozen"})


@_register
def custom_jvp():
    w = _Weights()

    @jax.custom_jvp
    def scaled(weight, x):
        return jnp.sin(weight * x)

    @scaled.defjvp
    def _rule(primals, tangents):  # a gradient unlike the function's own, to be followed
        (weight, x), (dw, dx) = primals, tangents
        return scaled(weight, x), 3.0 * x * dw + weight * dx

    def loss(p, x):
        return jnp.sum(scaled(p["s"], jax.nn.silu(x @ p["w"])))

    return Case(loss, {"s": w(4), "w": w(6, 4)}, w(_UNITS, 6))


@_register
def custom_vjp():
    w = _Weights()

    @jax.custom_vjp
    def layer(weight, x):
        return x @ weight

    def backward(kept, g):  # twice the weight gradient, on purpose
        weight, x = kept
        return 2.0 * x.T @ g, g @ weight.T

    layer.defvjp(lambda weight, x: (x @ weight, (weight, x)), backward)

    def loss(p, x):
        return jnp.sum(jnp.tanh(layer(p["w"], x) @ p["v"]))

    return Case(loss, {"w": w(6, 4), "v": w(4, 2)}, w(_UNITS, 3, 6))


@_register
def cond():
    w = _Weights()

    def loss(p, x):
        x = jax.lax.cond(
            jnp.sum(x) > 0, lambda x: jnp.tanh(x @ p["a"]), lambda x: x @ p["b"] + p["c"], x
        )
        return jnp.sum(x**2)

    return Case(loss, {"a": w(5, 5), "b": w(5, 5), "c": w(5)}, w(_UNITS, 5))


@_register
def switch():
    w = _Weights()

    def loss(p, unit):
        branches = [lambda x, i=i: jnp.tanh(x @ p["experts"][i]) for i in range(3)]
        return jnp.sum(jax.lax.switch(unit["kind"], branches, unit["x"]) @ p["out"])

    return Case(
        loss,
        {"experts": w(3, 5, 4), "out": w(4)},
        {"x": w(_UNITS, 5), "kind": w.integers(3, _UNITS)},
    )


@_register
def while_loop():
    w = _Weights()

    def loss(p, x):
        def halve(state):
            return state[0] + 1, state[1] / 2

        scale = jax.lax.while_loop(lambda s: s[1] > 1, halve, (0, jnp.sum(x**2)))[1]
        norm = jax.lax.while_loop(
            lambda s: s > 1, lambda s: s / 2, jax.lax.stop_gradient(jnp.sum(p["w"] ** 2))
        )
        return jnp.sum(jnp.tanh(x @ p["w"])) * jax.lax.stop_gradient(scale) * norm

    return Case(loss, {"w": w(5, 4)}, w(_UNITS, 5))


@_register
def loop_with_counter():
    w = _Weights()

    def loss(p, x):
        return jnp.sum(
            jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ p["w"][i]) + p["b"], x) ** 2
        )

    return Case(loss, {"w": w(3, 5, 5), "b": w(5)}, w(_UNITS, 5))


@_register
def nested_scans():
    w = _Weights()

    def loss(p, x):
        def cell(hidden, x, layer):
            hidden = jnp.tanh(x @ layer["x"] + hidden @ p["shared"].T)
            return hidden, hidden

        def layer(x, weights):
            step = lambda hidden, row: cell(hidden, row, weights)  # noqa: E731
            return jax.lax.scan(step, jnp.zeros(4), x)[1], None

        return jnp.sum(jax.lax.scan(layer, x, p["layers"])[0] ** 2)

    params = {"layers": {"x": w(2, 4, 4)}, "shared": w(4, 4)}
    return Case(loss, params, w(_UNITS, 5, 4))


@_register
def complex_filter():
    w = _Weights()

    def loss(p, x):
        response = jax.lax.complex(p["real"], p["imaginary"])
        filtered = jnp.fft.ifft(jnp.fft.fft(x) * response)
        return jnp.sum(jnp.abs(filtered) ** 2) + jnp.sum(filtered.real @ p["w"])

    return Case(loss, {"real": w(6), "imaginary": w(6), "w": w(6, 3)}, w(_UNITS, 6))


@_register
def user_level_units():
    w = _Weights()

    def loss(p, user):
        def one(x, y, real):
            return jnp.where(real, _cross_entropy(jnp.tanh(x @ p["w"]) @ p["v"], y), 0.0)

        return jnp.sum(jax.vmap(one)(user["x"], user["y"], user["real"]))

    real = jnp.arange(4)[None] < jnp.array([1, 4, 2, 3, 4])[:, None]
    units = {"x": w(_UNITS, 4, 6), "y": w.integers(3, _UNITS, 4), "real": real}
    return Case(loss, {"w": w(6, 5), "v": w(5, 3)}, units)


@_register
def bfloat16_compute():
    w = _Weights()
    params = {"w1": w(16, 32), "w2": w(32, 4)}

    def loss(p, unit):
        low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), p)
        hidden = jnp.tanh(unit["x"].astype(jnp.bfloat16) @ low["w1"])
        return _cross_entropy((hidden @ low["w2"]).astype(jnp.float32), unit["y"])

    # Both sides round differently: the oracle itself is no better than this.
    return Case(loss, params, {"x": w(_UNITS, 16), "y": w.integers(4, _UNITS)}, tolerance=1e-2)


@_register
def flax_linen():
    import flax.linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.GroupNorm(num_groups=2)(nn.Conv(4, (3, 3), strides=2)(x[None])))
            x = x.reshape(-1, 4)
            x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(num_heads=2)(x))
            x = nn.RNN(nn.LSTMCell(5))(x[None])[0]
            return nn.Dense(3)(x[-1])

    w = _Weights()
    network = Network()
    units = {"x": w(_UNITS, 6, 6, 2), "y": w.integers(3, _UNITS)}
    params = network.init(jax.random.key(1), units["x"][0])
    return Case(
        lambda p, unit: _cross_entropy(network.apply(p, unit["x"]), unit["y"]), params, units
    )


@_register
def flax_nnx():
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(9, 6, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)
            self.norm = nnx.LayerNorm(6, rngs=rngs)
            self.head = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            return self.head(self.norm(x + self.attention(x)).mean(0))

    w = _Weights()
    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)

    def loss(p, unit):
        return _cross_entropy(nnx.merge(graph, p, rest)(unit["x"]), unit["y"])

    return Case(loss, params, {"x": w.integers(9, _UNITS, 5), "y": w.integers(3, _UNITS)})


@_register
def equinox_modules():
    import equinox as eqx

    w = _Weights()
    network = eqx.nn.MLP(6, 3, 8, 2, key=jax.random.key(0))
    cell = eqx.nn.GRUCell(4, 6, key=jax.random.key(1))
    params, rest = eqx.partition((network, cell), eqx.is_inexact_array)

    def loss(p, unit):
        network, cell = eqx.combine(p, rest)
        hidden = jax.lax.scan(lambda h, x: (cell(x, h), None), jnp.zeros(6), unit["x"])[0]
        return _cross_entropy(network(hidden), unit["y"])

    return Case(loss, params, {"x": w(_UNITS, 5, 4), "y": w.integers(3, _UNITS)})
