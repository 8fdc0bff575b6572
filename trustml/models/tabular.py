"""Networks for tables: logistic regression and a small multilayer perceptron."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from trustml.models.network import Network, cross_entropy

NETWORKS = ("linear", "mlp")


def build_table_network(
    kind: str, *, numbers: int, categories: Sequence[int], classes: int, features: int = 64
) -> Network:
    """The network of a table, from weights that predict nothing at the start.

    A unit is a row of `trustml.data.tables.encode_table`. Its inputs are the numbers, an indicator
    for each missing one, and every category as a one-hot row; they exist for one unit at a time,
    so that a table in memory stays small.

    >>> network = build_table_network("linear", numbers=2, categories=(3, 4), classes=2)
    >>> jax.eval_shape(network.init, jax.random.key(0))["output"]["kernel"].shape
    (11, 2)

    Args:
      kind: "linear", a logistic regression, or "mlp", with one hidden layer.
      numbers: Columns of numbers.
      categories: Number of values of each column of categories.
      classes: Number of classes.
      features: Width of the hidden layer.

    Raises:
      ValueError: An unknown kind, or no columns.
    """
    if kind not in NETWORKS:
        raise ValueError(f"`kind` must be one of {', '.join(NETWORKS)}, got {kind!r}.")
    width = 2 * numbers + sum(categories)
    if not width:
        raise ValueError("`numbers` and `categories` must name a column, got none.")

    def init(key):
        if kind == "linear":
            return {"output": _dense(width, classes, None)}
        return {"hidden": _dense(width, features, key), "output": _dense(features, classes, None)}

    def logits(params, unit):
        x = _inputs(unit, categories)
        if kind == "mlp":
            x = jnp.tanh(_apply(params["hidden"], x))
        return _apply(params["output"], x)

    def loss(params, unit):
        return cross_entropy(logits(params, unit), unit["label"])  # 0 for label -1

    def predict(params, units):
        return jax.nn.softmax(jax.vmap(logits, (None, 0))(params, units))

    return Network(init, loss, jax.jit(predict), logits)


def _inputs(unit, categories):
    one_hot = [
        jax.nn.one_hot(unit["categories"][number], size) for number, size in enumerate(categories)
    ]
    return jnp.concatenate([unit["numbers"], unit["missing"].astype(jnp.float32), *one_hot])


def _dense(inputs: int, outputs: int, key) -> dict[str, jax.Array]:
    """A layer of zeros, or one with random weights that keep the size of its inputs."""
    shape, bias = (inputs, outputs), jnp.zeros(outputs)
    if key is None:
        return {"kernel": jnp.zeros(shape), "bias": bias}
    start = jax.nn.initializers.lecun_normal()(key, shape)
    return {"kernel": start, "bias": bias}


def _apply(layer, x):
    return x @ layer["kernel"] + layer["bias"]
