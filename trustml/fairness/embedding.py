"""The score as a function of a shift of the embeddings: token ids are not differentiable."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float


def shifted_score(score_fn: Callable, module: type[nn.Module]) -> Callable:
    """Makes `score_fn(params, unit)` a function of a shift of what `module` returns.

    At a shift of zero the value is that of `score_fn`, and the gradient by the shift is the
    gradient by the embedding: no network has to be rewritten to be measured.

    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> network = nn.Sequential([nn.Embed(4, 2), jnp.sum])
    >>> params = network.init(jax.random.key(0), jnp.array([1, 3]))
    >>> score = shifted_score(lambda params, unit: network.apply(params, unit), nn.Embed)
    >>> jax.grad(score, argnums=1)(params, jnp.zeros((2, 2)), jnp.array([1, 3])).tolist()
    [[1.0, 1.0], [1.0, 1.0]]

    Args:
      score_fn: `score_fn(params, unit)`, which applies a flax.linen network.
      module: The class of the layer, such as `nn.Embed`; its `__call__` returns one array. Every
        layer of the class is shifted, and there must be at least one.

    Returns:
      `score(params, shift, unit)`, for `prediction_sensitivity`.
    """
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise TypeError(f"`module` must be a flax.linen class such as nn.Embed, got {module!r}.")

    def score(params, shift: Float[Array, "..."], unit):
        found = []

        def intercept(call, args, kwargs, context):
            value = call(*args, **kwargs)
            if not (isinstance(context.module, module) and context.method_name == "__call__"):
                return value
            found.append(context.module.path)
            return value + shift.astype(value.dtype)

        with nn.intercept_methods(intercept):
            value = score_fn(params, unit)
        if not found:
            raise ValueError(
                f"`module` must be a layer of the network, got {module.__name__}, which is not "
                "called: the sensitivity to it would be zero whatever the network does."
            )
        return value

    return score
