"""Trains the private and the baseline arm into a run's folder, and resumes interrupted runs."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from trustml.data.tables import read_schema
from trustml.plan import PrivacyPlan
from trustml.recipes.train.arms import Trainings
from trustml.recipes.train.canaries import read_canaries
from trustml.recipes.train.config import TrainConfig, check_changes
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.train.folder import clean, make_folder, new_folder, resumable
from trustml.recipes.train.loading import with_task
from trustml.recipes.train.reporting import describe
from trustml.recipes.train.resolve import resolve, with_table
from trustml.recipes.train.schema_release import record_charges, release_schema
from trustml.recipes.yaml_files import read_yaml, to_yaml
from trustml.report import Report, read_report, to_json, write_json, write_text
from trustml.training.runs.files import locked
from trustml.training.runs.folder import RunFolder


class TrainResult(NamedTuple):
    """The report of a run and its folder. Private, except for the private weights."""

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
    data: Any = None,
    written: dict[str, Any] | None = None,
    command: str = "trustml.recipes.run",
    quiet: bool = False,
) -> TrainResult:
    """The trust report of a private and a baseline training, with attacks on both, in a folder.

    >>> run(TrainConfig(task="translate"))
    Traceback (most recent call last):
        ...
    ValueError: `--task` must be one of classify, multilabel, regression, tabular, tag, nlu, qa, \
lm, seq2seq, got 'translate'.

    With rows of your own:

        config = TrainConfig(text="message", label="intent", unit="user_id", epsilon=3.0)
        result = run(config, data=pandas.read_parquet("messages.parquet"))
        result.report.privacy.statement

    Args:
      config: What to train, on which data, within which budget.
      out: A new folder; by default the next free runs/DATA-N.
      data: Own rows in memory, instead of `config.data`: a pandas frame, a list of dicts, a
        `datasets.Dataset`, or a mapping of these by "train", "validation" and "test".
      written: Settings as the user wrote them, for config.yaml; by default those of `config`.
      command: The command or function of the user, for the same file.
      quiet: Whether to show no progress.

    Returns:
      The trust report and the folder, with weights, ledger, report.json and report.html.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used; nothing was written.
      FileExistsError: `out` is not empty.
    """
    config = TrainConfig.from_dict(config.to_dict(), "`config`")  # checks kinds and ranges
    asked = config.to_dict()
    config = with_task(config, data)
    folder = new_folder(config, None if out is None else Path(out))
    experiment = resolve(config, rows=data, quiet=quiet)
    steps = experiment.steps
    folder = make_folder(folder, config, automatic=out is None)
    with locked(folder), resumable(folder):
        if experiment.schema_plan is not None:
            schema = release_schema(experiment, RunFolder(folder))
            experiment = with_table(experiment, schema, quiet=quiet)
            steps = experiment.steps
        elif experiment.charges:
            record_charges(experiment, RunFolder(folder))
        asked = asked if written is None else written
        _describe_run(folder, experiment, asked, command)
        return TrainResult(Trainings(experiment, steps, folder, quiet).carry_out(), folder)


def resume(
    folder: str | Path,
    changes: dict[str, Any] | None = None,
    *,
    data: Any = None,
    quiet: bool = False,
    accept_charge: bool = False,
) -> TrainResult:
    """The result of the run in `folder`, which is resumed unless it has ended.

    >>> resume("none")
    Traceback (most recent call last):
        ...
    ValueError: `--resume` must name the folder of a run, got none, which holds no resolved.yaml.

    Args:
      folder: Folder of an earlier run.
      changes: Settings that may differ, such as the folder of the data or how to compute a step.
      data: The rows, if `run` was given them.
      quiet: Whether to show no progress.
      accept_charge: Whether a new key is allowed even if that charges many steps twice.

    Raises:
      ValueError: The folder holds no run, its settings are damaged, or a change is not allowed.
    """
    changes = changes or {}
    check_changes(changes)
    folder = Path(folder)
    files = RunFolder(folder)
    if not files.resolved.exists():
        raise ValueError(
            f"`--resume` must name the folder of a run, got {folder}, which holds no "
            f"{files.resolved.name}."
        )
    if files.partition.exists():
        raise ValueError(
            f"`--resume` must name a run of `trustml train`, got {folder}: use `trustml federate "
            f"--resume {folder}`."
        )
    resolved = read_resolved(folder)
    config = TrainConfig.from_dict({**resolved["settings"], **changes}, str(files.resolved))
    if files.report.exists():
        clean(folder, repeats=config.repeats, save_baseline=config.save_baseline)
        if not quiet:
            print(f"{folder} has ended: no step is left", file=sys.stderr)
        return TrainResult(read_report(folder), folder)
    sampled = read_canaries(folder) if config.audit or config.audit_rows else None
    # Read, not calibrated again: another version of the accountant may differ in the last digits.
    plan = PrivacyPlan.from_dict(resolved["report"]["plan"])
    # Read, not learned again: that would be another release.
    table = None if config.learn_schema is None else read_schema(files.schema)
    experiment = resolve(config, canaries=sampled, plan=plan, rows=data, table=table, quiet=quiet)
    steps = experiment.steps
    with locked(folder), resumable(folder):
        if changes:  # else the next resume would change them back, and take another key
            _write_resolved(folder, {**resolved, "settings": experiment.settled.to_dict()})
        training = Trainings(experiment, steps, folder, quiet, accept_charge, resume=True)
        return TrainResult(training.carry_out(), folder)


def read_resolved(folder: Path) -> dict[str, Any]:
    """The resolved settings that a run wrote before it began.

    Raises:
      ValueError: The file is missing or was cut off.
    """
    path = RunFolder(folder).resolved
    resolved = read_yaml(path)
    if resolved.get("whole") is not True:
        raise ValueError(
            f"`{path}` must be whole, got one that was cut off. Restore it from a "
            "backup: the settings of the run are in it alone."
        )
    return resolved


def _describe_run(folder: Path, experiment: Experiment, written, command: str) -> None:
    """Writes the settings, canaries and tokenizer of a run before it begins."""
    config, task, files = experiment.config, experiment.task, RunFolder(folder)
    write_text(files.config, to_yaml(written, f"As written: {command}"))
    if config.audit or config.audit_rows:
        write_json(files.canaries, experiment.canaries.to_dict())
    if task.tokenizer is not None:
        task.tokenizer.save(files.tokenizer)
    table = experiment.parts.train.table
    if table is not None and not files.schema.exists():  # a learned one is there already
        write_text(files.schema, table.to_toml())
    resolved = {
        "settings": experiment.settled.to_dict(),
        "report": to_json(describe(experiment)),
        "network": task.config,
        "columns": experiment.columns,
        "whole": True,  # the last line: YAML that was cut off is often still valid
    }
    _write_resolved(folder, resolved)


def _write_resolved(folder: Path, resolved: dict[str, Any]) -> None:
    head = (
        "The settings of the run and what follows from them; null takes the preset's value. "
        "`trustml train --resume` reads it."
    )
    write_text(RunFolder(folder).resolved, to_yaml(resolved, head))
