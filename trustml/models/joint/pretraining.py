"""Training on generated rows before private training starts; it costs no privacy.

The result is only as public as the rows, so `pretrain` refuses rows that the package did not
generate.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trustml.data import Examples, Tokenizer, encode
from trustml.models.joint.nlu import Network


def pretrain(
    network: Network,
    examples: Examples,
    tokenizer: Tokenizer,
    *,
    steps: int,
    batch: int = 256,
    learning_rate: float = 3e-3,
    max_length: int = 20,
    seed: int = 0,
) -> Any:
    """Parameters of `network`, trained from scratch on generated rows with Adam.

    Args:
      network: The network to train.
      examples: Generated rows with the labels of the private data.
      tokenizer: The tokenizer that private training uses.
      steps: Optimizer steps.
      batch: Rows per step.
      learning_rate: Peak of the cosine schedule.
      max_length: Number of tokens of a row that are read.
      seed: Seed of the initial weights and of the order of rows; not a secret.

    Raises:
      ValueError: Rows that are not synthetic, or a number that is not positive.
    """
    if not examples.synthetic:
        raise ValueError(
            f"`examples` must be synthetic, got {examples.name!r}: training on people's rows "
            "outside a private step voids every guarantee."
        )
    for name, value in (("steps", steps), ("batch", batch), ("learning_rate", learning_rate)):
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value!r}.")
    rows = encode(examples, tokenizer, max_length)
    rows = {name: rows[name] for name in ("tokens", "mask", "tags", "intent")}
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, 0.05))
    params = network.init(jax.random.key(seed))
    draw = np.random.default_rng(seed)
    update = _updater(network, optimizer)
    state = optimizer.init(params)
    for _ in range(steps):
        chosen = draw.integers(len(examples), size=batch)
        params, state = update(params, state, {name: rows[name][chosen] for name in rows})
    return params


def _updater(network: Network, optimizer: optax.GradientTransformation):
    def mean_loss(params, units):
        return jnp.mean(jax.vmap(network.loss, (None, 0))(params, units))

    @jax.jit
    def update(params, state, units):
        updates, state = optimizer.update(jax.grad(mean_loss)(params, units), state, params)
        return optax.apply_updates(params, updates), state

    return update
