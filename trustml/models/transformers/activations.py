"""Activations of two-layer networks, by the names that Hugging Face's transformers gives them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU's logistic approximation."""
    return x * nn.sigmoid(1.702 * x)


def _clipped_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU between -10 and 10."""
    return jnp.clip(gelu(x), -10.0, 10.0)


def _mish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Misra 2019 (arXiv:1908.08681)."""
    return x * jnp.tanh(nn.softplus(x))


def _laplace(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The Laplace function of MEGA (Ma et al. 2022, arXiv:2209.10655)."""
    # The paper's mean sqrt(1/2) and deviation sqrt(1/(4 pi)), rounded as transformers rounds them.
    return 0.5 * (1.0 + jax.lax.erf((x - 0.707107) / (0.282095 * 2**0.5)))


def _squared_relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """So et al. 2021 (arXiv:2109.08668)."""
    return jnp.square(nn.relu(x))


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU with the error function (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    return nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable] = {
    **dict.fromkeys(("gelu", "gelu_python"), gelu),
    **dict.fromkeys(
        ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"),
        nn.gelu,
    ),
    "gelu_10": _clipped_gelu,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "relu2": _squared_relu,
    "relu6": nn.relu6,
    "leaky_relu": nn.leaky_relu,
    **dict.fromkeys(("silu", "swish"), nn.silu),
    "hardswish": nn.hard_swish,
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "mish": _mish,
    "laplace": _laplace,
    "sqrtsoftplus": lambda x: jnp.sqrt(nn.softplus(x)),
    "linear": lambda x: x,
}
