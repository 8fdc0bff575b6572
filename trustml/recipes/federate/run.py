"""Trains across clients, and centrally beside it, into a run's folder; resumes what was ended."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trustml.federated.partition import load_partition, save_partition
from trustml.plan import PrivacyPlan
from trustml.recipes.federate.config import FederateConfig, check_changes
from trustml.recipes.federate.evaluation import (
    Trained,
    evaluate,
    score_on,
    scores_along_the_way,
)
from trustml.recipes.federate.experiment import Federation, seed_of
from trustml.recipes.federate.measured import Measured, StageRun
from trustml.recipes.federate.reporting import describe, make_report
from trustml.recipes.federate.resolve import resolve
from trustml.recipes.federate.rounds_log import RoundsLog
from trustml.recipes.federate.stages import Stage
from trustml.recipes.train.folder import FEDERATE, clean, make_folder, new_folder, resumable
from trustml.recipes.train.initial_weights import initial_weights
from trustml.recipes.train.run import TrainResult, read_resolved
from trustml.recipes.yaml_files import to_yaml
from trustml.report import read_report, render, to_json, write_json, write_text
from trustml.training import FitResult, fit, save_weights
from trustml.training.runs import interrupts
from trustml.training.runs.files import locked
from trustml.training.runs.folder import RunFolder

_HEAD = "The settings of the run and what follows from them. `trustml federate --resume` reads it."


def federate(
    config: FederateConfig,
    out: str | Path | None = None,
    *,
    data: Any = None,
    written: dict[str, Any] | None = None,
    command: str = "trustml.recipes.federate",
    quiet: bool = False,
) -> TrainResult:
    """The report of a training across clients and of a central one, in a folder.

    >>> federate(FederateConfig(algorithm="fedsgd"))
    Traceback (most recent call last):
        ...
    ValueError: `--algorithm` must be one of fedavg, fedprox, fedadam, fedyogi, fedadagrad, \
scaffold, mimelite, qfedavg, fedbuff, median, trimmed_mean, krum, got 'fedsgd'.

    Args:
      config: What to train, across which clients.
      out: A new folder; by default the next free runs/DATA-N.
      data: Own rows in memory, instead of `config.data`, as in `trustml.recipes.run`.
      written: Settings as the user wrote them, for config.yaml; by default those of `config`.
      command: The command or function of the user, for the same file.
      quiet: Whether to show no progress.

    Returns:
      The report and the folder, with weights, ledger, report.json and report.html.

    Guarantee:
      With `epsilon`, the weights satisfy the statement of the report for the addition or removal of
      one client with all its rows. Metrics, report, partition and baseline do not.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used; nothing was written.
      FileExistsError: `out` is not empty.
    """
    config = FederateConfig.from_dict(config.to_dict(), "`config`")  # checks kinds and ranges
    asked = config.to_dict() if written is None else written
    federation = resolve(config, rows=data, quiet=quiet)
    training = federation.config.training()
    folder = new_folder(training, None if out is None else Path(out), FEDERATE)
    federation = federation.settled()
    folder = make_folder(folder, training, automatic=out is None)
    with locked(folder), resumable(folder, FEDERATE):
        _describe_run(RunFolder(folder), federation, asked, command)
        return TrainResult(_Run(federation, RunFolder(folder), quiet).carry_out(), folder)


def resume_federation(
    folder: str | Path,
    changes: dict[str, Any] | None = None,
    *,
    data: Any = None,
    quiet: bool = False,
    accept_charge: bool = False,
) -> TrainResult:
    """The result of the federated run in `folder`, which is resumed unless it has ended.

    >>> resume_federation("none")
    Traceback (most recent call last):
        ...
    ValueError: `--resume` must name the folder of a run of `trustml federate`, got none.

    Args:
      folder: Folder of an earlier run.
      changes: Settings that may differ, such as the folder of the data.
      data: The rows, if `federate` was given them.
      quiet: Whether to show no progress.
      accept_charge: Whether a new key is allowed even if that charges many rounds twice.

    Raises:
      ValueError: The folder holds no such run, is damaged, or a change is not allowed.
    """
    changes = changes or {}
    check_changes(changes)
    folder = Path(folder)
    files = RunFolder(folder)
    if not (files.resolved.exists() and files.partition.exists()):
        raise ValueError(
            f"`--resume` must name the folder of a run of `trustml federate`, got {folder}."
        )
    resolved = read_resolved(folder)
    config = FederateConfig.from_dict({**resolved["settings"], **changes}, str(files.resolved))
    if files.report.exists():
        clean(folder, save_baseline=config.save_baseline)
        if not quiet:
            print(f"{folder} has ended: no round is left", file=sys.stderr)
        return TrainResult(read_report(folder), folder)
    described = resolved["report"]["plan"]
    # Read, not calibrated again: another version of the accountant may differ in the last digits.
    plan = None if described is None else PrivacyPlan.from_dict(described)
    made = load_partition(files.partition)
    federation = resolve(config, rows=data, partition=made, plan=plan, quiet=quiet)
    with locked(folder), resumable(folder, FEDERATE):
        if changes:
            _write_resolved(files, {**resolved, "settings": federation.config.to_dict()})
        run = _Run(federation, files, quiet, accept_charge, resume=True)
        return TrainResult(run.carry_out(), folder)


def _describe_run(files: RunFolder, federation: Federation, written, command: str) -> None:
    """Writes settings, partition and tokenizer of a run before it begins."""
    write_text(files.config, to_yaml(written, f"As written: {command}"))
    task, table = federation.task, federation.parts.train.table
    if task.tokenizer is not None:
        task.tokenizer.save(files.tokenizer)
    if table is not None:
        write_text(files.schema, table.to_toml())
    save_partition(federation.population.partition, files.partition)
    resolved = {
        "settings": federation.config.to_dict(),
        "report": to_json(describe(federation)),
        "network": task.config,
        "columns": federation.columns,
        "whole": True,  # the last line: YAML that was cut off is often still valid
    }
    _write_resolved(files, resolved)


def _write_resolved(files: RunFolder, resolved: dict[str, Any]) -> None:
    write_text(files.resolved, to_yaml(resolved, _HEAD))


class _Run(NamedTuple):
    """Both trainings of a run."""

    federation: Federation
    files: RunFolder
    quiet: bool
    accept_charge: bool = False
    resume: bool = False

    def carry_out(self):
        """The report, after training and evaluating; it ends the run."""
        federation, files = self.federation, self.files
        measured = self._measured(self._start())
        report = make_report(federation, measured, files)
        write_text(files.page, render([report]))
        write_json(files.report, to_json(report))
        clean(files.path, save_baseline=federation.config.save_baseline)
        return report

    def _measured(self, start: Any) -> Measured:
        federation, files = self.federation, self.files
        runs: list[StageRun] = []
        folders = files.periods(len(federation.stages))
        for number, (stage, folder) in enumerate(zip(federation.stages, folders, strict=True), 1):
            label = "federated" if len(folders) == 1 else f"period {number}/{len(folders)}"
            runs.append(self._stage(label, stage, start, folder, number - 1))
            start = runs[-1].result.params
        visits = sum(one.examples for run in runs for one in run.costs)
        trained = evaluate(federation, runs[-1].result, visits)
        if len(folders) > 1:
            save_weights(files.weights, start)
        return Measured(tuple(runs), trained, self._central(visits))

    def _stage(
        self, label: str, stage: Stage, start: Any, folder: RunFolder, number: int
    ) -> StageRun:
        federation, seed = self.federation, self.federation.config.seed
        folder.path.mkdir(mode=0o700, exist_ok=True)
        visits = stage.clients.counts * federation.config.local_epochs
        with RoundsLog(folder.rounds, visits, stage.stays) as log:
            step = federation.step(stage, number)
            seed = None if seed is None else seed_of(seed, number)
            result = self._fit(label, step, start, stage.clients, folder, [log], seed)
            costs = log.costs(int(np.asarray(result.state.step)))
        return StageRun(result, tuple(costs), score_on(federation, result.params, stage.next))

    def _central(self, visits: int) -> Trained | None:
        federation, files = self.federation, self.files
        if not federation.config.baseline:
            return None
        step = federation.central_step(max(visits, 1))
        rows = federation.population.clients.rows
        seed = federation.config.seed
        result = self._fit("central", step, self._start(), rows, files.baseline, (), seed)
        seen = sum(entry["batch_size"] for entry in result.history if "batch_size" in entry)
        return evaluate(federation, result, int(seen))

    def _start(self) -> Any:
        federation, path = self.federation, self.files.start
        seed = federation.config.seed or 0
        return initial_weights(path, federation.task, federation.model, seed, quiet=self.quiet)

    def _fit(
        self, label, step, start, train, folder: RunFolder, callbacks: Any, seed: int | None
    ) -> FitResult:
        federation, config = self.federation, self.federation.config
        every = config.evaluate_every if callbacks else None  # of rounds, not of central steps
        with interrupts.after_a_step() as asked:
            return fit(
                step,
                start,
                train,
                evaluate=lambda params: scores_along_the_way(federation, params),
                evaluate_every=every,
                pause=asked,
                callbacks=callbacks,
                out=folder.path,
                resume=self.resume,
                accept_charge=self.accept_charge,
                source=federation.parts.train.fingerprint,
                checkpoint_every=config.checkpoint_every,
                keep=True,
                seed=seed,
                delta=federation.delta,
                progress=False if self.quiet else label,
            )
