"""Layers of pretrained transformers, for one sequence without a batch axis.

Parameters are float32, and products run in `Options.dtype`. Statistics of norms, attention scores
and softmax are float32 in any case: sums and exponentials in bfloat16, with 8 bits of precision,
lose too much.
"""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

DEEP = 24  # layers from which on compiling each by itself takes minutes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters: y = x W + b + (x A) B alpha / rank (Hu et al. 2021, arXiv:2106.09685).

    `targets` is a regular expression that is searched in the paths of dense layers, such as
    `encoder/layer_0/attention/query`.

    >>> Lora(rank=4).targets
    'attention/(query|value|qkv)$'
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str = r"attention/(query|value|qkv)$"

    def __post_init__(self):
        if type(self.rank) is not int or self.rank < 1:
            raise ValueError(f"`rank` must be a positive integer, got {self.rank!r}.")
        if not np.isfinite(self.alpha):
            raise ValueError(f"`alpha` must be finite, got {self.alpha!r}.")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise ValueError(
                f"`targets` must be a pattern, got {self.targets!r}: {error}."
            ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How to compute a network; only dropout changes results beyond rounding.

    `scan` stacks the layers and runs them in one loop, for a shorter compilation; None does so for
    `DEEP` layers and more. `remat` keeps only each layer's input and recomputes the rest in the
    backward pass, for less memory.

    >>> Options(dtype="bfloat16", lora=Lora(rank=4)).lora.rank
    4
    """

    dtype: str = "float32"  # or "bfloat16", of products; parameters are float32
    remat: bool = False
    scan: bool | None = False
    dropout: float = 0.0
    lora: Lora | None = None

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"`dtype` must be float32 or bfloat16, got {self.dtype!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout!r}.")


def as_row(vector: Float[Array, " features"], like: Array) -> Array:
    """A vector of parameters in the rank of `like`."""
    # Reshaped, not broadcast to the shape of `like`: book-keeping then sees the parameter itself
    # meet the data. Its gradient per unit is a sum over rows, without an array of all of them.
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


class Dense(nn.Module):
    """An affine map, with a low-rank adapter where `Options.lora` names it."""

    features: int
    options: Options
    scale: float = 0.02  # standard deviation of initial weights
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*rows in"]) -> Float[Array, "*rows out"]:
        """Applies the map."""
        width, dtype = x.shape[-1], jnp.dtype(self.options.dtype)
        start = nn.initializers.normal(self.scale)
        kernel = self.param("kernel", start, (width, self.features), jnp.float32)
        y = x.astype(dtype) @ kernel.astype(dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + as_row(bias.astype(dtype), y)
        lora = self.options.lora
        if lora is None or not re.search(lora.targets, "/".join(self.path)):
            return y
        # `lora_b` starts at zero: at first the network is the pretrained one.
        start = nn.initializers.normal(1 / np.sqrt(width))
        a = self.param("lora_a", start, (width, lora.rank), jnp.float32)
        b = self.param("lora_b", nn.initializers.zeros, (lora.rank, self.features), jnp.float32)
        added = (x.astype(dtype) @ a.astype(dtype)) @ b.astype(dtype)
        return y + added * jnp.asarray(lora.alpha / lora.rank, dtype)


class Norm(nn.Module):
    """Layer normalisation with learned scale and bias, in float32."""

    eps: float
    options: Options

    @nn.compact
    def __call__(self, x: Float[Array, "time features"]) -> Float[Array, "time features"]:
        """Normalises each position."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        centred = x.astype(jnp.float32)
        centred = centred - centred.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.eps)
        y = y * as_row(scale, y) + as_row(bias, y)
        return y.astype(self.options.dtype)


class Table(nn.Module):
    """A vector per id, or per position."""

    rows: int
    features: int
    scale: float

    def setup(self):
        """Makes the table."""
        start = nn.initializers.normal(self.scale)
        self.embedding = self.param("embedding", start, (self.rows, self.features), jnp.float32)

    def __call__(self, ids: Int[Array, " time"]) -> Float[Array, "time features"]:
        """Looks ids up; an id without a row gives NaN, so that the mistake shows in the loss."""
        return self.embedding.at[ids].get(mode="fill", fill_value=jnp.nan)

    def first(self, time: int, offset: int = 0) -> Float[Array, "time features"]:
        """The vectors of `time` positions.

        Raises:
          ValueError: The table has fewer.
        """
        if offset + time > self.rows:
            raise ValueError(
                f"`ids` must have at most {self.rows - offset} positions, as the model has, "
                f"got {time}; cut the sequence."
            )
        return self.embedding[offset : offset + time]


def dropped(module: nn.Module, x):
    """Dropout at the rate of `module.options`; nothing without a key for it."""
    rate = module.options.dropout
    if not rate or not module.has_rng("dropout"):
        return x
    keep = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, x.shape)
    return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))


def run_layers(
    layer: type[nn.Module], count: int, config, options: Options, x, *context, per_layer=()
):
    """The output of consecutive layers, submodules of the compact module that calls this.

    Their names are `layer_0`, `layer_1`, ...; with `scan` they are stacked as `layers`.

    Args:
      layer: Module class with fields `config` and `options`. It maps `(x, *context)` to
        `(x, None)`, the form that `nn.scan` needs.
      count: Number of layers.
      config: The layers' `config`.
      options: The layers' `options`, with `scan` and `remat`.
      x: Input of the first layer.
      *context: Further inputs of every layer.
      per_layer: Arrays [layer, ...]; each layer gets its entries after `context`.
    """
    scan = count >= DEEP if options.scan is None else options.scan
    if options.remat:
        # Inside a loop XLA merges no computations anyway; the barriers would only cost time.
        layer = nn.remat(layer, prevent_cse=not scan)
    if scan:
        stacked = nn.scan(
            layer,
            variable_axes={"params": 0, "cache": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast,) * len(context) + (0,) * len(per_layer),
            length=count,
        )
        return stacked(config, options, name="layers")(x, *context, *per_layer)[0]
    for index in range(count):
        own = (array[index] for array in per_layer)
        x, _ = layer(config, options, name=f"layer_{index}")(x, *context, *own)
    return x


class Stack(nn.Module):
    """`run_layers` as a module, for a name of its own."""

    layer: type[nn.Module]
    count: int
    config: object
    options: Options

    @nn.compact
    def __call__(self, x, *context, per_layer=()):
        """Applies the layers."""
        given = (self.layer, self.count, self.config, self.options, x, *context)
        return run_layers(*given, per_layer=per_layer)
