"""The report of a run's folder: the one it wrote, or what is known of a run that has not ended."""

import dataclasses
import json
from pathlib import Path

import yaml

from trustml.formatting import one_line
from trustml.plan import PrivacyPlan
from trustml.report.build import clipping, learning, report_frame, with_data
from trustml.report.document import Description, Report
from trustml.report.measured import Arms
from trustml.report.serialize import description_from_json, from_json
from trustml.training.runs.entries import Summary
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import LedgerError, read_ledger, summarize
from trustml.training.runs.metrics_log import read_lines

_DELTA = 1e-5
_SO_FAR = (
    "the claim is that of the steps so far; if what the run showed decides whether it goes on, it "
    "is that of all its steps"
)


def read_report(folder: Path, *, delta: float | None = None) -> Report:
    """The report of a run, finished or not.

    >>> read_report(Path("nowhere"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `RUN` must be a folder of `trustml train` or `trustml.fit`, got nowhere...

    Args:
      folder: Of `trustml train`, or of `trustml.fit`.
      delta: For the epsilon of a run that wrote no report, where the folder does not say.

    Raises:
      ValueError: There is no run, or its files are damaged; the message names the file.
    """
    path = RunFolder(folder).report
    if not path.exists():
        return _of_ledger(RunFolder(folder), delta)
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a whole JSON document: {error}.") from None
    try:
        return from_json(document)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _of_ledger(folder: RunFolder, delta: float | None) -> Report:
    runs = folder.trainings()
    if not runs:
        raise ValueError(
            f"`RUN` must be a folder of `trustml train` or `trustml.fit`, got {folder}, which "
            f"holds neither {folder.report.name} nor {folder.ledger.name}."
        )
    summary = summarize(read_ledger(runs[0].path))
    if not summary.segments:
        raise LedgerError(f"{runs[0].ledger} holds no step yet: there is nothing to show.")
    if "schedule" in summary.run["plan"]:
        raise ValueError(
            f"`RUN` must be a finished run where it has no plan, got {folder}, which is "
            f"unfinished. Go on with it by `trustml federate --resume {folder}`."
        )
    if not summary.run["private_training"]:
        raise ValueError(f"`RUN` must be a private training, got {folder}, which is a baseline.")
    described = _description(folder)
    report = report_frame(
        name=folder.path.resolve().name,
        summary=summary,
        plan=PrivacyPlan.from_dict(summary.run["plan"]),
        delta=delta or (described.delta if described else _DELTA),
        status=_status(summary),
        repeats=len(runs),
    )
    return _measured(_described(report, described), runs[0], summary)


def _status(summary: Summary):
    reason = (summary.end or {}).get("reason")
    return reason if reason in ("stopped early", "budget spent") else "unfinished"


def _described(report: Report, described: Description | None) -> Report:
    """The report with what `resolved.yaml` adds to the ledger."""
    so_far = (_SO_FAR,) if report.status == "unfinished" else ()
    if described is None:
        return dataclasses.replace(report, notes=so_far)
    data = dataclasses.replace(described.data, fingerprint=report.data.fingerprint)
    return dataclasses.replace(
        with_data(report, data),
        model=described.model,
        training=described.training,
        notes=(*described.notes, *so_far),
    )


def _measured(report: Report, folder: RunFolder, summary: Summary) -> Report:
    """The report with the metrics of the steps so far, and what computed them."""
    history = read_lines(folder.metrics) if folder.metrics.exists() else []
    conditions = summary.segments[-1].conditions
    return dataclasses.replace(
        report,
        clipping=clipping(history, report.plan.clip_norm) if report.plan else None,
        learning=Arms(learning(history)) if history else None,
        versions={name: value for name, value in conditions.items() if name != "program"},
    )


def _description(folder: RunFolder) -> Description | None:
    path = folder.resolved
    if not path.exists():
        return None
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        words = one_line(error)
        raise ValueError(f"{path} must be a whole YAML document: {words}.") from None
    if not (isinstance(found, dict) and isinstance(found.get("report"), dict)):
        return None
    try:
        return description_from_json(found["report"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
