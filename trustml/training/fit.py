"""The loop around a step: prefetch, ledger and checkpoints, progress, evaluation, metrics."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import PyTree

from trustml.sampling import Draw
from trustml.training.batches import Prefetcher
from trustml.training.progress import progress_bar
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.metrics_log import Logger, MetricsLogger
from trustml.training.runs.resume import open_run
from trustml.training.runs.run import FolderRun, MemoryRun, ReplayDiffers
from trustml.training.train_step import StepMetrics, TrainState, TrainStep


class StepEvent(NamedTuple):
    """Argument of a callback after each step. Private, and `state` is donated to the next."""

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
    stopped: str = "complete"  # or why the run ended before all steps of the plan
    charged: int = 0  # releases that count against the budget
    seconds: float = 0.0  # spent training, over all processes
    notes: tuple[str, ...] = ()  # what a resumed run has to say


def fit(
    step: TrainStep,
    params: PyTree,
    train: PyTree,
    *,
    evaluate: Callable[[PyTree], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
    stop: Callable[[Sequence[dict[str, Any]]], bool] | None = None,
    pause: Callable[[], bool] | None = None,
    callbacks: Iterable[Callable[[StepEvent], None]] = (),
    loggers: Iterable[Logger] = (),
    out: str | Path | None = None,
    resume: bool = False,
    accept_charge: bool = False,
    source: str | None = None,
    checkpoint_every: float = 60.0,
    keep: bool | None = None,
    seed: int | None = None,
    delta: float | None = None,
    progress: bool | str = True,
) -> FitResult:
    """Runs all steps of `step.plan`.

    With a folder, a run survives whatever ends it: every release is in `ledger.jsonl` before it
    happens, and `resume=True` goes on from the last checkpoint. On the same machine, with the same
    data, code and versions, the result is bit-identical to that of a run that was never ended. On
    other devices or under other conditions it goes on with the same noise if no step is repeated;
    repeated ones take a new key and a new charge, and the run stays within the budget.

    >>> import jax.numpy as jnp, numpy as np, optax, trustml
    >>> plan = trustml.PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=0.5, sample_rate=1.0, steps=3, expected_batch=4
    ... )
    >>> step = trustml.private_step(lambda w, x: (w - x) ** 2, optax.sgd(0.1), plan)
    >>> result = fit(step, jnp.zeros(()), np.ones(4, np.float32), progress=False)
    >>> result.stopped, result.charged, len(result.history)
    ('complete', 3, 3)

    Args:
      step: Of `private_step` or `baseline_step`.
      params: Weights to start from; they are copied.
      train: The whole data, leading axis = unit; or a `RowSource`, whose rows are read as they are
        drawn, ahead of the step. In a folder, one without a fingerprint is read once before.
      evaluate: Weights to named numbers, on data that the promise does not cover, or for eyes
        that may see private quantities. Choosing by them is tuning on the data.
      evaluate_every: Steps between evaluations, a tenth of the run by default; the last step is
        always evaluated.
      stop: Asked after each evaluation, with all evaluations so far, whether to stop early; see
        `patience`. It must read public signals only, such as scores on data that are nobody's.
        The claim stays that of all steps: when to stop was learned from the releases.
      pause: Asked after each step whether to leave by KeyboardInterrupt. The step is whole and
        saved, so nothing is repeated: for a signal handler that sets a flag.
      callbacks: Called after each step with a `StepEvent`.
      loggers: Called with `(step, numbers)` some steps late; private numbers are named so. Works
        with `lambda step, numbers: wandb.log(numbers, step=step)` and the like.
      out: New folder for ledger, metrics, checkpoints and weights; see `RunFolder`.
      resume: Continue the run in `out` if one is there. A finished one is handed back as it is.
      accept_charge: Whether a run that continues under other conditions may be charged twice for
        more than a tenth of its steps, and end as many earlier.
      source: Fingerprint of the data set that `train` was taken from, by default that of `train`:
        runs on one data set compose, and the ledger says by this which do.
      checkpoint_every: Seconds between checkpoints, at least; they take a twentieth of the time at
        most. With 0 every step is followed by one, whatever it takes.
      keep: Whether weights stay in `out` after the end. By default those of a private step do;
        those of a baseline are a private quantity.
      seed: None for secret randomness. An integer makes draws and noise repeatable, and voids the
        promise against whoever guesses it.
      delta: Where given, progress shows the epsilon so far at this delta.
      progress: Whether to show progress on standard error, or the name to show it under.

    Returns:
      A `FitResult`.

    Raises:
      FileExistsError: `out` holds a run already, and `resume` is false.
      ValueError: An argument is out of range, or the run in `out` cannot be continued with these.
      BlockingIOError: Another process works on `out`.
    """
    if evaluate_every is not None and not (evaluate_every >= 1):
        raise ValueError(f"`evaluate_every` must be at least 1, got {evaluate_every!r}.")
    if resume and out is None:
        raise ValueError("`out` must name the run's folder to resume it, got None.")
    if not (checkpoint_every >= 0):
        raise ValueError(f"`checkpoint_every` must not be negative, got {checkpoint_every!r}.")
    keep = step.private if keep is None else keep
    loop = _Loop(
        step=step,
        train=train,
        evaluate=evaluate,
        every=evaluate_every or max(1, step.plan.steps // 10),
        stop=stop,
        pause=pause,
        callbacks=tuple(callbacks),
        loggers=tuple(loggers),
        delta=delta if step.private else None,
        progress=progress,
    )
    if out is None:
        return loop.run(MemoryRun(step, params, seed), None)

    folder = RunFolder(Path(out))

    def folder_run(**options):
        opened = open_run(
            folder,
            step,
            params,
            train,
            seed=seed,
            accept_charge=accept_charge,
            source=source,
            **options,
        )
        return FolderRun(opened, step, checkpoint_every=checkpoint_every, keep=keep)

    try:
        return loop.run(folder_run(resume=resume), folder.metrics)
    except ReplayDiffers as error:
        again = folder_run(resume=True, renew=str(error))
    return loop.run(again, folder.metrics)


class _Loop(NamedTuple):
    """The arguments of `fit`, checked."""

    step: TrainStep
    train: PyTree
    evaluate: Callable | None
    every: int
    stop: Callable | None
    pause: Callable | None
    callbacks: tuple[Callable, ...]
    loggers: tuple[Logger, ...]
    delta: float | None
    progress: bool | str

    def run(self, run: FolderRun | MemoryRun, metrics_file: Path | None) -> FitResult:
        """Carries out what `run` has left, and ends it."""
        with run, MetricsLogger(metrics_file, run.first, self.loggers) as record:
            state, stopped = run.state, "complete"
            if not run.ended:
                state, stopped = self._train(run, record)
                state = run.finish(state, record, stopped)
        return FitResult(
            state.params,
            state,
            record.history,
            run.reproducible,
            run.stopped or stopped,
            run.charged,
            run.seconds,
            run.notes,
        )

    def _train(self, run, record):
        step, state, stopped = self.step, run.state, "complete"
        if (  # an earlier process may have ended between the decision to stop and the end
            self.stop is not None
            and run.first < run.last
            and _evaluated(record, run.first)
            and self.stop(record.evaluations)
        ):
            return state, "stopped early"
        with (
            Prefetcher(run.sampler.draw, lambda draw: step.gather(draw, self.train)) as ahead,
            progress_bar(run, step.plan, self.delta, self.progress) as show,
        ):
            try:
                for batch in ahead.batches(run.first, run.last):
                    run.before(batch.draw.step, state)
                    state, metrics = step.update(state, batch.draw, batch)
                    done = batch.draw.step + 1
                    found = record.step(done, metrics)
                    for callback in self.callbacks:
                        callback(StepEvent(done, state, metrics, batch.draw))
                    if self.evaluate is not None and (done % self.every == 0 or done == run.last):
                        found = record.evaluation(done, self.evaluate(state.params))
                        if self.stop is not None and self.stop(record.evaluations):
                            stopped = "stopped early" if done < run.last else stopped
                    show(done, found)
                    run.after(state, record)
                    if self.pause is not None and self.pause():
                        raise KeyboardInterrupt
                    if stopped != "complete":
                        break
            except ReplayDiffers:
                raise  # what the repeated steps gave must not be kept: their noise was used before
            except BaseException:
                run.suspend(state, record)
                raise
        if self.evaluate is not None and stopped == "complete" and not _evaluated(record, run.last):
            record.evaluation(run.last, self.evaluate(state.params))  # no step was left to do
        if stopped == "complete" and run.last < step.plan.steps:
            stopped = "budget spent"
        return state, stopped


def _evaluated(record, step: int) -> bool:
    """Whether the latest evaluation is that of `step`."""
    return [entry["step"] for entry in record.evaluations[-1:]] == [step]


def patience(name: str, evaluations: int) -> Callable[[Sequence[dict[str, Any]]], bool]:
    """For `stop`: true once the last `evaluations` brought no new best of the number `name`.

    >>> stop = patience("accuracy", 2)
    >>> [stop([{"accuracy": value} for value in seen]) for seen in ([1, 2], [2, 1], [2, 1, 2])]
    [False, False, True]
    """
    if not (evaluations >= 1):
        raise ValueError(f"`evaluations` must be at least 1, got {evaluations!r}.")

    def stop(found):
        values = [entry[name] for entry in found]
        return len(values) > evaluations and max(values[-evaluations:]) <= max(
            values[:-evaluations]
        )

    return stop
