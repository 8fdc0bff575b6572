"""The plan of an experiment: the bounds and the noise that its budget asks for."""

from typing import Any

import jax

from trustml.audit import canary_trainable
from trustml.clipping import layer_bounds, partition
from trustml.plan import PrivacyPlan
from trustml.plan.charges import total_charge
from trustml.recipes.train.canaries import shapes_with
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.waiting import waiting


def calibrated(experiment: Experiment) -> PrivacyPlan:
    """The plan of the private arm within the budget.

    Raises:
      ValueError: A setting is out of range, or no noise keeps within the budget.
    """
    config, private = experiment.config, experiment.private
    size = {}
    if config.noise == "discrete_gaussian":  # its grid depends on the number of parameters
        size["dimension"] = float(sum(leaf.size for leaf in jax.tree.leaves(_trained(experiment))))
    cycle_length = _cycle_length(experiment)
    epsilon, delta = total_charge(experiment.charges)
    with waiting("train: looking for the noise that the budget asks for"):
        return PrivacyPlan.calibrate(
            epsilon=experiment.epsilon - epsilon,
            delta=experiment.delta - delta,
            num_units=experiment.num_private_units,
            expected_batch=private.expected_batch,
            steps=private.steps,
            clip_norm=_bounds(experiment),
            clipping=config.clipping,
            clip_quantile=config.clip_quantile,
            num_microbatches=config.num_microbatches,
            noise=config.noise,
            noise_memory=config.noise_memory,
            noise_decay=config.noise_decay,
            cycle_length=cycle_length,
            sampling=config.sampling,
            adjacency=config.adjacency,
            accountant=config.accountant,
            unit=experiment.unit,
            **size,
        )


def _cycle_length(experiment: Experiment) -> int:
    config = experiment.config
    if config.sampling == "cyclic_poisson":
        epoch = experiment.num_private_units // experiment.private.expected_batch
        return config.cycle_length or max(1, epoch)
    if config.cycle_length is not None:
        raise ValueError(
            f"`--cycle-length` is of `--sampling` cyclic_poisson alone, got {config.cycle_length} "
            f"with {config.sampling}."
        )
    return 1


def _bounds(experiment: Experiment) -> Any:
    """The bound of the whole gradient, or the bounds of its parts."""
    chosen, total = experiment.config.bounds, experiment.private.clip_norm
    # With gradient canaries the model is one level deeper in the tree.
    depths = {"flat": 0, "layer": None, "block": 2 if len(experiment.canaries.gradients) else 1}
    if chosen not in depths:
        raise ValueError(f"`--bounds` must be flat, layer or block, got {chosen!r}.")
    if chosen == "flat":
        return total
    return layer_bounds(_trained(experiment), total, depth=depths[chosen])


def _trained(experiment: Experiment) -> Any:
    """Shapes of the weights that the private arm trains."""
    number = len(experiment.canaries.gradients)
    shapes = jax.eval_shape(experiment.task.network.init, jax.random.key(0))
    trainable = experiment.trainable
    chosen = canary_trainable(trainable) if number else trainable
    return partition(shapes_with(shapes, number), chosen)[0]
