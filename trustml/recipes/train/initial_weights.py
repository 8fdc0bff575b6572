"""The weights that the trainings of a run start from."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from trustml.models.tasks import Task
from trustml.recipes.train.models import TaskModel
from trustml.recipes.train.word_models import pretraining_steps
from trustml.training import load_weights, save_weights


def initial_weights(
    path: Path,
    task: Task,
    model: TaskModel,
    seed: int,
    *,
    quiet: bool,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """Initial weights; a file keeps them until the end, as pretraining may take a minute.

    Args:
      path: The file; it is written where it is not there.
      task: Of the run.
      model: Of the run.
      seed: Of random weights.
      quiet: Whether to say nothing.
      given: Parts of the weights by name that were made elsewhere, such as a head.
    """
    if path.exists():
        like = jax.eval_shape(lambda: task.network.init(jax.random.key(0)))
        return load_weights(path, like)
    pretraining = pretraining_steps(model)
    if pretraining is not None and not quiet:
        print(f"pretraining: {pretraining}, a minute or two", file=sys.stderr)
    start = task.start(seed)
    if given is not None:
        start = {**start, **given}
    save_weights(path, start)
    return start
