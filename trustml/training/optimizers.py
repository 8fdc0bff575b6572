"""Adam less the variance of the noise: an optimizer for private steps.

It reads what a private step releases and nothing else, so it costs no privacy.
"""

import math

import jax
import jax.numpy as jnp
import optax

from trustml.plan import PrivacyPlan
from trustml.plan.checks import check_positive


def scale_by_adam_bias_corrected(
    noise_stddev_of_mean: float, *, b1: float = 0.9, b2: float = 0.999, floor: float
) -> optax.GradientTransformation:
    """Adam's direction with the variance of the noise taken off its second moment.

    `m_hat / sqrt(max(v_hat - noise_stddev_of_mean^2, floor))`. The noise of a private step is
    independent of the gradient, so `v_hat` is the second moment without noise plus the variance of
    the noise, on average; plain Adam divides by both, which under much noise is one number for all
    weights. What is left after the subtraction still fluctuates: `floor` bounds the steps.

    >>> optimizer = scale_by_adam_bias_corrected(0.6, floor=1e-3)
    >>> params = jnp.zeros(2)
    >>> updates, _ = optimizer.update(jnp.array([1.0, 2.0]), optimizer.init(params), params)
    >>> [round(value, 3) for value in updates.tolist()]
    [1.25, 1.048]

    Args:
      noise_stddev_of_mean: Standard deviation of the noise on every value of the mean gradient.
      b1: Decay of the first moment, in [0, 1).
      b2: Decay of the second moment, in [0, 1).
      floor: Least second moment, positive, in squared gradients.

    Returns:
      A transformation for any `optax.chain`: decoupled weight decay and the learning rate follow.
      Its state is `optax.ScaleByAdamState`.

    Raises:
      ValueError: A number is out of range.

    References:
      Tang, Shpilevskiy, Lécuyer, DP-AdamBC: your DP-Adam is actually DP-SGD, 2024, arXiv
      2312.14334.
    """
    _check_adam(noise_stddev_of_mean, b1, b2, floor)
    variance = noise_stddev_of_mean**2

    def init(params):
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        at = count.astype(jnp.float32)
        mu = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, state.mu)
        nu = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * jnp.square(g), updates, state.nu)

        def direction(m, v):
            signal = jnp.maximum(v / (1 - b2**at) - variance, floor)
            return m / (1 - b1**at) / jnp.sqrt(signal)

        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def adam_bias_corrected(
    learning_rate: optax.ScalarOrSchedule,
    noise_stddev_of_mean: float,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    floor: float,
) -> optax.GradientTransformation:
    """Adam with the variance of the noise taken off its second moment (DP-AdamBC).

    >>> optimizer = adam_bias_corrected(0.1, 0.6, floor=1e-3)
    >>> params = jnp.zeros(2)
    >>> updates, _ = optimizer.update(jnp.array([1.0, 2.0]), optimizer.init(params), params)
    >>> [round(value, 3) for value in updates.tolist()]
    [-0.125, -0.105]

    Args:
      learning_rate: A number or a schedule.
      noise_stddev_of_mean: As in `scale_by_adam_bias_corrected`, like what follows.
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      floor: Least second moment.

    Raises:
      ValueError: A number is out of range.
    """
    return optax.chain(
        scale_by_adam_bias_corrected(noise_stddev_of_mean, b1=b1, b2=b2, floor=floor),
        optax.scale_by_learning_rate(learning_rate),
    )


def dp_adam_bc(
    learning_rate: optax.ScalarOrSchedule,
    plan: PrivacyPlan,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    floor: float | None = None,
) -> optax.GradientTransformation:
    """DP-AdamBC with the noise of `plan`.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=0.6, sample_rate=1.0, steps=1, expected_batch=1
    ... )
    >>> optimizer, params = dp_adam_bc(0.1, plan), jnp.zeros(2)
    >>> updates, _ = optimizer.update(jnp.array([1.0, 2.0]), optimizer.init(params), params)
    >>> [round(value, 3) for value in updates.tolist()]
    [-0.125, -0.105]

    Args:
      learning_rate: A number or a schedule.
      plan: Its noise must have one size throughout, independent from step to step.
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      floor: Least second moment; by default a tenth of the variance of the noise, so that a weight
        whose gradient is noise alone moves about three times as far as under Adam. Our choice: the
        authors tune it for each task.

    Raises:
      ValueError: The plan's noise is not one number, or `floor` is missing where there is no noise.
    """
    steady = plan.noise in ("independent", "discrete_gaussian") and plan.noise_decay == 1
    if not steady or plan.clip_quantile is not None:
        raise ValueError(
            f"`plan` must have noise of one size: `noise`={plan.noise!r}, `noise_decay`="
            f"{plan.noise_decay!r} and `clip_quantile`={plan.clip_quantile!r} change it from step "
            "to step. Use `optax.adam`."
        )
    stddev = plan.stddev / plan.divisor
    if floor is None:
        if stddev == 0:
            raise ValueError("`floor` must be given where `plan` has no noise, got None.")
        floor = stddev**2 / 10
    return adam_bias_corrected(learning_rate, stddev, b1=b1, b2=b2, floor=floor)


def _check_adam(stddev, b1, b2, floor) -> None:
    if not (stddev >= 0 and math.isfinite(stddev)):
        raise ValueError(f"`noise_stddev_of_mean` must be finite and not negative, got {stddev!r}.")
    for name, value in (("b1", b1), ("b2", b2)):
        if not (0 <= value < 1):
            raise ValueError(f"`{name}` must be in [0, 1), got {value!r}.")
    check_positive("floor", floor)
