"""Trains privately beside the baseline and writes a run's folder; goes on where a run was ended."""

import contextlib
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax

from trustml.plan import PrivacyPlan
from trustml.recipes.train import evaluation
from trustml.recipes.train.canaries import read_canaries
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.train.reporting import describe, make_report
from trustml.recipes.train.resolve import resolve, with_task
from trustml.recipes.yaml_files import read_yaml, to_yaml
from trustml.report import Report, read_report, render, to_json, write_json, write_text
from trustml.report.measured import Arms
from trustml.training import (
    FitResult,
    TrainStep,
    baseline_step,
    fit,
    load_weights,
    patience,
    save_weights,
)
from trustml.training.runs import interrupts
from trustml.training.runs.files import locked
from trustml.training.runs.folder import RunFolder
from trustml.training.timing import time_steps


class TrainResult(NamedTuple):
    """What a run found, and where it lies. Private quantities, but for the private weights."""

    report: Report
    folder: Path

    def _repr_html_(self) -> str:
        """The report's page, for a notebook."""
        page = RunFolder(self.folder).page.read_text().replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{page}" style="width:100%;height:70vh;border:0"></iframe>'


def run(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    written: dict[str, Any] | None = None,
    command: str = "trustml.recipes.run",
    quiet: bool = False,
) -> TrainResult:
    """Trains the private arm and the baseline arm, attacks and compares both, and writes it all.

    >>> run(TrainConfig(task="translate"))
    Traceback (most recent call last):
        ...
    ValueError: `--task` must be one of classify, tag, nlu, qa, lm, seq2seq, got 'translate'.

    Args:
      config: What to train, on which data, within which budget.
      out: A new folder; by default the next free runs/DATA-N.
      written: The settings as they were asked for, kept beside those that follow from them.
      command: What asked for it, for the same file.
      quiet: Whether to show no progress.

    Returns:
      The trust report and the folder, with weights, ledger, report.json and report.html.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used; nothing was written.
      FileExistsError: `out` holds something.
    """
    wanted = None if out is None else Path(out)
    folder = _new_folder(config, wanted)
    experiment = resolve(config, quiet=quiet)
    steps = experiment.steps()
    folder = _make_folder(folder, config, automatic=out is None)
    with locked(folder), _resumable(folder):
        asked = config.to_dict() if written is None else written
        _describe_run(folder, experiment, asked, command)
        return TrainResult(_Training(experiment, steps, folder, quiet).carry_out(), folder)


def resume(
    folder: str | Path,
    changes: dict[str, Any] | None = None,
    *,
    quiet: bool = False,
    accept_charge: bool = False,
) -> TrainResult:
    """Goes on with the run in `folder`, or shows its report if it has ended.

    >>> resume("none")
    Traceback (most recent call last):
        ...
    ValueError: `--resume` must name the folder of a run, got none, which holds no resolved.yaml.

    Args:
      folder: Of an earlier run.
      changes: Settings that may differ: where the data lie, how a step is computed.
      quiet: Whether to show no progress.
      accept_charge: Whether it may take a new key even where that charges many steps twice.

    Raises:
      ValueError: It is no run, or its settings are damaged.
    """
    folder = Path(folder)
    files = RunFolder(folder)
    if not files.resolved.exists():
        raise ValueError(
            f"`--resume` must name the folder of a run, got {folder}, which holds no "
            f"{files.resolved.name}."
        )
    resolved = read_resolved(folder)
    settings = {**resolved["settings"], **(changes or {})}
    config = TrainConfig.from_dict(settings, str(files.resolved))
    if files.report.exists():
        _clean(config, folder)
        if not quiet:
            print(f"{folder} has ended: no step is left", file=sys.stderr)
        return TrainResult(read_report(folder), folder)
    sampled = read_canaries(folder) if config.audit or config.audit_rows else None
    # Not calibrated anew: another version of the accountant may find other last digits.
    plan = PrivacyPlan.from_dict(resolved["report"]["plan"])
    experiment = resolve(config, canaries=sampled, plan=plan, quiet=quiet)
    steps = experiment.steps()
    with locked(folder), _resumable(folder):
        if changes:  # or the next resume would change them back, and take another key
            _write_resolved(folder, {**resolved, "settings": config.to_dict()})
        training = _Training(experiment, steps, folder, quiet, accept_charge, resume=True)
        return TrainResult(training.carry_out(), folder)


def read_resolved(folder: Path) -> dict[str, Any]:
    """What a run wrote when it began: its settings, and what follows from them.

    Raises:
      ValueError: It is missing or not whole.
    """
    path = RunFolder(folder).resolved
    resolved = read_yaml(path)
    if resolved.get("whole") is not True:
        raise ValueError(
            f"`{path}` must be whole, got one that was cut off. Restore it from a "
            "backup: without it the settings of the run are not known."
        )
    return resolved


def _describe_run(folder: Path, experiment: Experiment, written, command: str) -> None:
    """Writes what a run is, before it begins."""
    config, task, files = experiment.config, experiment.task, RunFolder(folder)
    write_text(files.config, to_yaml(written, f"As written: {command}"))
    if config.audit or config.audit_rows:
        write_json(files.canaries, experiment.canaries.to_dict())
    if task.tokenizer is not None:
        task.tokenizer.save(files.tokenizer)
    resolved = {
        "settings": config.to_dict(),
        "report": to_json(describe(experiment)),
        "network": task.config,
        "whole": True,  # the last line: YAML cut off in between often reads well
    }
    _write_resolved(folder, resolved)


def _write_resolved(folder: Path, resolved: dict[str, Any]) -> None:
    head = (
        "What was asked for, and what follows from it; null is what the preset has. "
        "`trustml train --resume` reads it."
    )
    write_text(RunFolder(folder).resolved, to_yaml(resolved, head))


@contextlib.contextmanager
def _resumable(folder: Path):
    """Says, whatever ends a run, how to go on with it."""
    way = f"go on with: trustml train --resume {shlex.quote(str(folder))}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(way) from None
    except OSError as error:
        raise OSError(f"{str(error).rstrip('.')}; {way}") from error


class _Training(NamedTuple):
    """All trainings of one run."""

    experiment: Experiment
    steps: dict[str, TrainStep]
    folder: Path
    quiet: bool
    accept_charge: bool = False
    resume: bool = False

    def carry_out(self) -> Report:
        """Trains, evaluates and times both arms; writes the report, which ends the run."""
        config = self.experiment.config
        files = RunFolder(self.folder)
        folders = files.repeats(config.repeats)
        arms: dict[str, list[evaluation.ArmResult]] = {}
        for turn, folder in enumerate(folders):
            folder.path.mkdir(mode=0o700, exist_ok=True)
            seed = None if config.seed is None else config.seed + turn
            start = self._start(folder, seed)
            for name, step in self.steps.items():
                label = f"{name} {turn + 1}/{config.repeats}" if config.repeats > 1 else name
                result = self._fit(label, step, start, folder, seed)
                arm = evaluation.evaluate(self.experiment, self.experiment.objective(step), result)
                arms.setdefault(name, []).append(arm)
        report = make_report(
            self.experiment, Arms(**arms), self._time(), self.folder, folders[0].path
        )
        write_text(files.page, render([report]))
        write_json(files.report, to_json(report))
        _clean(config, self.folder)
        return report

    def _fit(self, label: str, step: TrainStep, start: Any, folder: RunFolder, seed) -> FitResult:
        experiment, config = self.experiment, self.experiment.config
        objective = experiment.objective(step)
        shown = [metric.name for metric in experiment.task.scoring.metrics]
        patient = f"public_{shown[-1]}"  # a metric of words: higher is better

        def evaluate(params):
            params = objective.model(params)
            scores = evaluation.utility(experiment, params, experiment.parts.valid)
            numbers = {f"valid_{name}": scores[name] for name in shown if name in scores}
            if experiment.generated is not None:
                generated = evaluation.utility(experiment, params, experiment.generated)
                numbers[patient] = generated[shown[-1]]
            return numbers

        with interrupts.after_a_step() as asked:
            return fit(
                step,
                objective.params(start),
                objective.units,
                evaluate=evaluate,
                evaluate_every=config.evaluate_every,
                stop=patience(patient, config.patience) if config.patience else None,
                pause=asked,
                out=folder.path if step.private else folder.baseline.path,
                resume=self.resume,
                accept_charge=self.accept_charge,
                source=experiment.parts.train.fingerprint,
                checkpoint_every=config.checkpoint_every,
                keep=True,
                seed=seed,
                delta=experiment.delta,
                progress=False if self.quiet else label,
            )

    def _start(self, folder: RunFolder, seed: int | None) -> Any:
        """The weights to start from: public, and kept until the end, as they may take a minute."""
        path, task = folder.start, self.experiment.task
        if path.exists():
            like = jax.eval_shape(lambda: task.network.init(jax.random.key(0)))
            return load_weights(path, like)
        pretraining = self.experiment.model.pretraining_steps
        if pretraining is not None and not self.quiet:
            print(f"pretraining: {pretraining}, a minute or two", file=sys.stderr)
        start = task.start(seed or 0)
        save_weights(path, start)
        return start

    def _time(self) -> Any:
        """The private step, and a plain one on the same rows: the baseline's own has fewer."""
        experiment, step = self.experiment, self.steps["private"]
        objective = experiment.private_objective
        plain = baseline_step(
            objective.loss,
            objective.optimizer(experiment.private.optimizer()),
            step.plan,
            physical_batch_size=step.physical_batch_size,
            trainable=objective.trainable,
            shorten=objective.shorten,
        )
        return time_steps(
            step,
            objective.params(experiment.task.network.init(jax.random.key(0))),
            objective.units,
            baseline=plain if experiment.config.baseline else None,
        )


def _clean(config: TrainConfig, folder: Path) -> None:
    """Removes what only a run that goes on needs, the baseline's weights among it."""
    for each in RunFolder(folder).repeats(config.repeats):
        _remove(each.start)
        if not config.save_baseline:
            _remove(each.baseline.weights)
            _remove(each.baseline.checkpoints)


def _new_folder(config: TrainConfig, out: Path | None) -> Path:
    """The folder for results: the one asked for, which must be new, or the next free one."""
    if out is None:
        return _next_folder(config)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"`--out` must be a folder, got the file {out}.")
    if RunFolder(out).holds_run():
        raise FileExistsError(
            f"`--out` must be a new folder, got {out}, which holds a run. Go on with it by "
            f"`trustml train --resume {out}`, or name another."
        )
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    return out


def _next_folder(config: TrainConfig) -> Path:
    number, data = 1, with_task(config).data
    while Path("runs", f"{data}-{number}").exists():
        number += 1
    return Path("runs", f"{data}-{number}")


def _make_folder(folder: Path, config: TrainConfig, *, automatic: bool) -> Path:
    """Makes the folder, for its owner alone; a name that another process took meanwhile is left."""
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=not automatic)
            return folder
        except FileExistsError:
            folder = _next_folder(config)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
