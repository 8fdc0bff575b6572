"""The loop around a step: prefetch, progress, evaluation, a record of metrics."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from trustml.sampling import Draw
from trustml.training.batches import Prefetcher
from trustml.training.progress import progress_bar
from trustml.training.step import StepMetrics, TrainState, TrainStep


class StepEvent(NamedTuple):
    """What a callback is told after each step. Private, and `state` is donated to the next."""

    step: int  # steps done, this one included
    state: TrainState
    metrics: StepMetrics
    draw: Draw


class FitResult(NamedTuple):
    """A finished run. Of a private step `params` are covered by the plan; all else is private."""

    params: PyTree
    state: TrainState
    history: list[dict[str, Any]]  # one entry a step, and one an evaluation
    reproducible: bool  # keys came from a seed given by hand


def fit(
    step: TrainStep,
    params: PyTree,
    train: PyTree,
    *,
    evaluate: Callable[[PyTree], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
    callbacks: Iterable[Callable[[StepEvent], None]] = (),
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    progress: bool | str = True,
) -> FitResult:
    """Runs all steps of `step.plan`.

    Args:
      step: Of `private_step` or `baseline_step`.
      params: Weights to start from; they are copied.
      train: The whole data, leading axis = unit.
      evaluate: Weights to named numbers, on data that the promise does not cover, or for eyes
        that may see private quantities. Choosing by them is tuning on the data.
      evaluate_every: Steps between evaluations, a tenth of the run by default; the last step is
        always evaluated.
      callbacks: Called after each step with a `StepEvent`.
      out: New folder for `plan.json` and `metrics.jsonl`, whose lines are marked private.
      resume: Not yet possible.
      seed: None for secret randomness. An integer makes draws and noise repeatable, and voids the
        promise against whoever guesses it.
      progress: Whether to show progress on standard error, or the name to show it under.

    Returns:
      A `FitResult`.

    Raises:
      NotImplementedError: `resume` is true.
      FileExistsError: `out` holds a run already.
      ValueError: An argument is out of range.
    """
    if resume:
        raise NotImplementedError(
            "`resume` must be False: checkpoints are not written yet. Run without interruption."
        )
    if evaluate_every is not None and not (evaluate_every >= 1):
        raise ValueError(f"`evaluate_every` must be at least 1, got {evaluate_every!r}.")
    plan = step.plan
    every = evaluate_every or max(1, plan.steps // 10)
    sampler = plan.sampler(seed)
    state = step.init(params, key=seed)
    callbacks = tuple(callbacks)
    with (
        _Record(out, step) as record,
        Prefetcher(sampler.draw, lambda draw: step.gather(draw, train)) as ahead,
        progress_bar(plan.steps, progress) as show,
    ):
        for batch in ahead.batches(0, plan.steps):
            state, metrics = step.update(state, batch.draw, batch)
            done = batch.draw.step + 1
            for callback in callbacks:
                callback(StepEvent(done, state, metrics, batch.draw))
            found = record.step(done, metrics)
            if evaluate is not None and (done % every == 0 or done == plan.steps):
                found = record.evaluation(done, evaluate(state.params))
            show(done, found)
    return FitResult(state.params, state, record.history, seed is not None)


class _Record:
    """Metrics in memory and, given a folder, in `metrics.jsonl`. Every line is marked private."""

    _PENDING = 20  # steps whose metrics stay on the device: fetching one waits for it

    def __init__(self, out, step):
        self.history, self._pending, self._file = [], [], None
        if out is None:
            return
        folder = Path(out)
        if (folder / "metrics.jsonl").exists():
            raise FileExistsError(f"`out` must be a new folder, got {folder}, which holds a run.")
        folder.mkdir(parents=True, exist_ok=True)
        described = {"private_training": step.private, "plan": step.plan.to_dict()}
        (folder / "plan.json").write_text(json.dumps(described, indent=2) + "\n")
        self._file = (folder / "metrics.jsonl").open("w")

    def step(self, done, metrics):
        """Takes the metrics of a step; now and then gives back the latest that is at hand."""
        self._pending.append((done, metrics._replace(aux=None)))
        return self._flush() if len(self._pending) >= self._PENDING else None

    def evaluation(self, done, numbers):
        """Takes the result of an evaluation."""
        self._flush()
        numbers = {name: float(value) for name, value in numbers.items()}
        return self._write({"step": done, "evaluation": True, **numbers})

    def _flush(self):
        fetched = jax.device_get(self._pending)
        self._pending = []
        last = None
        for done, metrics in fetched:
            named = zip(metrics._fields, metrics, strict=True)
            values = {name: _plain(value) for name, value in named if value is not None}
            last = self._write({"step": done, **values})
        return last

    def _write(self, entry):
        entry = {**entry, "private": True}
        self.history.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        return entry

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._flush()
        if self._file is not None:
            self._file.close()


def _plain(value):
    return int(value) if np.issubdtype(np.asarray(value).dtype, np.integer) else float(value)
