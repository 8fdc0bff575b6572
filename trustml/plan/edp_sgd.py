"""eDP-SGD (Dupuy et al., 2022) as a plan, with the guarantee that it has."""

import math
from typing import Any

from trustml.clipping import layer_bounds
from trustml.plan.privacy_plan import PrivacyPlan


def edp_sgd(
    params: Any,
    *,
    epsilon: float,
    delta: float,
    num_units: int,
    expected_batch: float,
    epochs: int,
    clip_norm: float = 1.0,
    num_microbatches: int = 8,
    noise_decay: float = 0.95,
    **options: Any,
) -> PrivacyPlan:
    """The plan of eDP-SGD: means of micro-batches clipped layer by layer, noise that decays.

    Chosen here: the bound of each layer (in proportion to the root of its size, so that noise per
    weight is alike everywhere), the steps, and the noise of the first epoch, which is solved for
    so that the decay is within the budget and not on top of it. The paper's own numbers could not
    be read; what it says of the method is followed.

    >>> import numpy as np
    >>> params = {"w": np.zeros((3, 3)), "b": np.zeros(3)}
    >>> budget = {"epsilon": 8.0, "delta": 1e-5, "num_units": 1_000}
    >>> plan = edp_sgd(params, **budget, expected_batch=500, epochs=1)
    >>> plan.num_microbatches, plan.steps, round(plan.clip_norm["w"] / plan.clip_norm["b"], 3)
    (8, 2, 1.732)

    Args:
      params: The trained parameters, or their shapes.
      epsilon: Budget.
      delta: Budget.
      num_units: Units in the data, public.
      expected_batch: Units per step on average.
      epochs: Epochs of ceil(num_units / expected_batch) steps.
      clip_norm: Bound of a mean gradient over all layers together.
      num_microbatches: Means a step bounds: in the paper one for each GPU.
      noise_decay: Factor on the noise from epoch to epoch.
      **options: Other fields of the plan.

    Guarantee:
      That of the plan. Clipping a mean moves it by up to twice the bound when a unit comes or goes,
      not by the bound over the batch: noise is twice that of clipping every unit, and the mean of
      many clipped units says more than a clipped mean. `private_step` on a plan without
      `num_microbatches` costs about the same time here and gives more for the same epsilon.

    Raises:
      ValueError: A number is out of range, or no noise meets the budget.

    References:
      Dupuy, Arava, Gupta and Rumshisky, An Efficient DP-SGD Mechanism for Large Scale NLU Models,
      ICASSP 2022.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or not epochs >= 1:
        raise ValueError(f"`epochs` must be a positive whole number, got {epochs!r}.")
    return PrivacyPlan.calibrate(
        epsilon=epsilon,
        delta=delta,
        num_units=num_units,
        expected_batch=expected_batch,
        steps=epochs * math.ceil(num_units / expected_batch),
        clip_norm=layer_bounds(params, clip_norm, by="size"),
        num_microbatches=num_microbatches,
        noise_decay=noise_decay,
        **options,
    )
