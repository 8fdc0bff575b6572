"""Can any unit move a clipped sum by more than promised? A search for the worst one.

An adversary chooses a unit's data: features that make a softmax certain, tokens whose gradients
cancel, values of any size. Random units and mutations of the worst found so far are tried on small
networks of several kinds, each unit in a group of its own, so that a sum is a contribution.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trustml.clipping import clipped_grad
from trustml.verify.faulty import scaled_losses

_TOLERANCE = 1e-6  # the rounding of the contribution's own norm
_ROUNDING = 1e-4  # that of the sum over all units
_POPULATION = 48  # units tried at a time
_BOUNDS = (1e-8, 1e-3, 1.0, 1e6)  # of flat clipping: from far below ordinary norms to far above


class Contribution(NamedTuple):
    """The largest contribution found, over its bound."""

    network: str
    strategy: str
    clipping: str
    units_tried: int
    worst: float  # largest l2 norm of a unit's part in the sums, over `grad.sensitivity`
    moved: float  # how far the sum over all units moves without that one, likewise
    planted: bool = False  # the sums have an error on purpose, which must be found

    @property
    def holds(self) -> bool:
        """Whether no unit exceeds its bound by more than rounding; one must if that is planted."""
        exceeded = not (self.worst <= 1 + _TOLERANCE and self.moved <= 1 + _ROUNDING)
        return exceeded == self.planted


class _Target(NamedTuple):
    """A network, and units to start a search from."""

    loss: Callable
    params: Any
    draw: Callable[[np.random.Generator, int], dict]  # (rng, units) -> arrays, unit axis first


class Setup(NamedTuple):
    """How a network computes."""

    remat: bool = False
    dtype: Any = jnp.float32

    def name(self, network: str) -> str:
        """The network with what is special about it."""
        kind = [jnp.dtype(self.dtype).name] if self.dtype != jnp.float32 else []
        return ", ".join([network, *(["remat"] if self.remat else []), *kind])

    def block(self, function):
        """`function`, rematerialised if asked for."""
        return jax.checkpoint(function) if self.remat else function


def _weights(rng, *shape):
    return rng.normal(size=shape) / np.sqrt(shape[-2] if len(shape) > 1 else 1)


def _any_scale(rng, units: int, *shape):
    """Normal values, each unit's of its own magnitude: half from 1e-6 to 1e6, half near one."""
    scale = 10 ** np.where(
        rng.random(units) < 0.5, rng.uniform(-6, 6, size=units), rng.uniform(-1, 2, size=units)
    )
    return scale.reshape(-1, *(1 for _ in shape)) * rng.normal(size=(units, *shape))


def _surprise(logits):
    return -jax.nn.log_softmax(logits.astype(jnp.float32))[0]


def _softmax(setup: Setup) -> _Target:
    """Logistic regression: certain units cancel in 1 - p."""
    dot = setup.block(jnp.dot)
    return _Target(
        lambda w, unit: _surprise(dot(unit["x"], w)),
        np.array([[1.0, 0.0], [0.3, -0.2]]),
        lambda rng, units: {"x": _any_scale(rng, units, 2)},
    )


def _perceptron(setup: Setup) -> _Target:
    """Tokens through a hidden layer; their mean is classified."""
    rng = np.random.default_rng(1)
    params = {"up": _weights(rng, 4, 8), "bias": np.zeros(8), "down": _weights(rng, 8, 3)}

    def loss(p, unit):
        def block(x):
            return jax.nn.gelu(x @ p["up"] + p["bias"][None]) @ p["down"]

        return _surprise(jnp.mean(setup.block(block)(unit["x"]), axis=0))

    return _Target(loss, params, lambda rng, units: {"x": _any_scale(rng, units, 6, 4)})


def _cancelling(setup: Setup) -> _Target:
    """A linear layer on 256 tokens of which one half undoes the other, but for a little."""

    def loss(w, unit):
        return jnp.sum(setup.block(jnp.dot)(unit["rows"], w) * unit["cols"]).astype(jnp.float32)

    def draw(rng, units):
        rows, cols = rng.normal(size=(2, units, 128, 6))
        little = 10 ** rng.uniform(-7, 0, size=(units, 1, 1))
        moved = [array + little * rng.normal(size=array.shape) for array in (rows, -cols)]
        scale = 10 ** rng.uniform(-6, 6, size=(units, 1, 1))
        return {
            "rows": scale * np.concatenate([rows, moved[0]], axis=1),
            "cols": np.concatenate([cols, moved[1]], axis=1),
        }

    return _Target(loss, np.zeros((6, 6)), draw)


def _attention(setup: Setup) -> _Target:
    """Two layers of attention under one scan, then a classifier."""
    rng = np.random.default_rng(2)
    params = {"layers": _weights(rng, 2, 4, 12), "head": _weights(rng, 4, 3)}

    def layer(x, weights):
        q, k, v = jnp.split(x @ weights, 3, axis=1)
        return x + jax.nn.softmax(q @ k.T) @ v, None

    def loss(p, unit):
        x, _ = jax.lax.scan(setup.block(layer), unit["x"], p["layers"])
        return _surprise(x[0] @ p["head"])

    return _Target(loss, params, lambda rng, units: {"x": _any_scale(rng, units, 4, 4)})


def _convolution(setup: Setup) -> _Target:
    """A convolution, its maxima and a classifier."""
    rng = np.random.default_rng(3)
    params = {"kernel": rng.normal(size=(2, 2, 2, 4)), "head": _weights(rng, 4, 3)}

    def convolve(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image[None], kernel, (1, 1), "SAME", None, None, numbers
        )

    def loss(p, unit):
        found = jax.nn.relu(setup.block(convolve)(unit["x"], p["kernel"]))
        return _surprise(jnp.max(found, axis=(0, 1, 2)) @ p["head"])

    return _Target(loss, params, lambda rng, units: {"x": _any_scale(rng, units, 4, 4, 2)})


def _tied(setup: Setup) -> _Target:
    """An embedding that is looked up and is the output layer too."""
    rng = np.random.default_rng(4)
    params = {"table": rng.normal(size=(5, 4)), "mix": _weights(rng, 4, 4)}

    def loss(p, unit):
        def block(weight):
            return jnp.tanh(p["table"][jnp.array([1, 2, 1])] * unit["x"]) @ weight

        return _surprise(p["table"] @ jnp.mean(setup.block(block)(p["mix"]), axis=0) * unit["gain"])

    def draw(rng, units):
        return {"x": _any_scale(rng, units, 3, 4), "gain": _any_scale(rng, units)}

    return _Target(loss, params, draw)


def _recurrent(setup: Setup) -> _Target:
    """One matrix in every step of a loop, with cross terms, from a state that is learned."""
    rng = np.random.default_rng(5)
    params = {"w": _weights(rng, 4, 4), "start": _weights(rng, 4), "head": _weights(rng, 4, 3)}

    def loss(p, unit):
        def tick(state, x):
            return jnp.tanh(state @ p["w"] + x), None

        state, _ = jax.lax.scan(setup.block(tick), p["start"], unit["x"])
        return _surprise(state @ p["head"] * unit["gain"])

    def draw(rng, units):
        return {"x": _any_scale(rng, units, 5, 4), "gain": _any_scale(rng, units)}

    return _Target(loss, params, draw)


NETWORKS: dict[str, Callable[[Setup], _Target]] = {
    "softmax": _softmax,
    "perceptron": _perceptron,
    "cancelling tokens": _cancelling,
    "attention": _attention,
    "convolution": _convolution,
    "tied embedding": _tied,
    "recurrent": _recurrent,
}


def worst_contribution(
    network: str,
    strategy: str,
    clipping: str = "flat",
    setup: Setup = Setup(),  # noqa: B008 - a value
    *,
    generations: int = 12,
    seed: int = 0,
    make: Callable = clipped_grad,
) -> Contribution:
    """Searches for the unit that exceeds its bound the most.

    Args:
      network: A name of `NETWORKS`.
      strategy: As in `clipped_grad`.
      clipping: As in `clipped_grad`; flat clipping is tried with bounds from 1e-8 to 1e6.
      setup: How the network computes.
      generations: Rounds of 48 units for each bound.
      seed: Of the search.
      make: What makes the sums, called as `clipped_grad` is; another is taken for a planted error.
    """
    target = NETWORKS[network](setup)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, setup.dtype), target.params)
    build = functools.partial(
        make, target.loss, clip_norm=1.0, strategy=strategy, clipping=clipping
    )
    grad, single = build(num_groups=_POPULATION), build()
    worst, moved, tried = 0.0, 0.0, 0
    for bound in _BOUNDS if clipping == "flat" else (1.0,):
        rng = np.random.default_rng(seed)
        measure = functools.partial(_contributions, grad, params, setup.dtype, bound)
        units = target.draw(rng, _POPULATION)
        sizes = measure(units)
        for _ in range(generations - 1):
            best = np.argsort(-sizes)[: _POPULATION // 4]
            units = _next(rng, target, units, best)
            sizes = measure(units)
        tried += generations * _POPULATION
        top = int(np.argmax(sizes))
        others, every = np.where(np.arange(_POPULATION) == top, -1, 0), np.zeros(_POPULATION, int)
        alone, whole, rest = (
            _sums(single, params, setup.dtype, bound, units, group)[0]
            for group in (-1 - others, every, others)
        )
        worst = max(worst, float(sizes[top]), float(np.linalg.norm(alone)))
        moved = max(moved, float(np.linalg.norm(whole - rest)))
    planted = make is not clipped_grad
    return Contribution(setup.name(network), strategy, clipping, tried, worst, moved, planted)


def _next(rng, target: _Target, units, best):
    """The best, mutations of them by a little and by a lot, and new units."""
    fresh = target.draw(rng, _POPULATION // 4)
    parents = rng.choice(best, size=_POPULATION - len(best) - _POPULATION // 4)

    def one(old, new):
        steps = 10 ** rng.uniform(-7, 0, size=(len(parents), *(1 for _ in old.shape[1:])))
        children = old[parents] * (1 + steps * rng.normal(size=(len(parents), *old.shape[1:])))
        return np.concatenate([old[best], children, new])

    return {name: one(units[name], fresh[name]) for name in units}


def _contributions(grad, params, dtype, bound, units) -> np.ndarray:
    """The l2 norm of each unit's part over the bound."""
    return np.linalg.norm(_sums(grad, params, dtype, bound, units, np.arange(_POPULATION)), axis=1)


def _sums(grad, params, dtype, bound, units, group) -> np.ndarray:
    """Sums over the bound, [group, all leaves], in float64."""
    units = {name: jnp.asarray(array, dtype) for name, array in units.items()}
    sums, _ = grad(params, units, group, clip_norm=jnp.float32(bound))
    flat = [
        np.asarray(leaf, np.float64).reshape(grad.num_groups, -1) for leaf in jax.tree.leaves(sums)
    ]
    return np.concatenate(flat, axis=1) / float(np.float32(bound))


_REMAT, _LOW = Setup(remat=True), Setup(remat=True, dtype=jnp.bfloat16)
_SHORT = (
    ("softmax", "auto", "automatic_v", _REMAT),
    ("softmax", "ghost", "flat", Setup()),
    ("perceptron", "ghost", "automatic", _REMAT),
    ("cancelling tokens", "ghost", "flat", _REMAT),
    ("cancelling tokens", "gram", "flat", Setup()),
    ("attention", "auto", "flat", _REMAT),
    ("attention", "auto", "automatic_v", _LOW),
    ("convolution", "ghost", "flat", Setup()),
    ("tied embedding", "ghost", "automatic_v", Setup()),
    ("recurrent", "bookkeeping", "automatic_v", Setup()),
)


def worst_contributions(cases=_SHORT, **options) -> Iterator[Contribution]:
    """Yields the worst contribution of every case, and that of a known error; half a minute.

    Args:
      cases: Arguments of `worst_contribution`.
      options: For each of them.
    """
    for case in cases:
        yield worst_contribution(*case, **options)
    yield worst_contribution("softmax", "scaled losses", "flat", make=scaled_losses, **options)
