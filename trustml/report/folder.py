"""The report of a run's folder: the one it wrote, or what there is of a run that has not ended."""

import json
from pathlib import Path
from typing import Any

import yaml

from trustml.plan import PrivacyPlan
from trustml.report.build import clipping, learning, report_frame
from trustml.report.schema import check
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import LedgerError, read_ledger, summarize
from trustml.training.runs.metrics_log import read_lines

ENDINGS = ("stopped early", "budget spent")
_DELTA = 1e-5
_SO_FAR = (
    "the claim is that of the steps so far; if what the run showed decides whether it goes on, it "
    "is that of all its steps"
)


def read_report(folder: Path, *, delta: float | None = None) -> dict[str, Any]:
    """The report of a run, finished or not.

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
        report = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a whole JSON document: {error}.") from None
    try:
        check(report)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return report


def _of_ledger(folder: RunFolder, delta: float | None) -> dict[str, Any]:
    runs = folder.trainings()
    if not runs:
        raise ValueError(
            f"`RUN` must be a folder of `trustml train` or `trustml.fit`, got {folder}, which "
            f"holds neither {folder.report.name} nor {folder.ledger.name}."
        )
    first = runs[0]
    summary = summarize(read_ledger(first.path))
    if not summary.segments:
        raise LedgerError(f"{first.ledger} holds no step yet: there is nothing to show.")
    if not summary.run["private_training"]:
        raise ValueError(f"`RUN` must be a private training, got {folder}, which is a baseline.")
    settings = _settings(folder)
    end = summary.end or {}
    status = end["reason"] if end.get("reason") in ENDINGS else "unfinished"
    report = report_frame(
        name=folder.path.resolve().name,
        summary=summary,
        plan=PrivacyPlan.from_dict(summary.run["plan"]),
        delta=delta or settings.get("delta") or _DELTA,
        status=status,
        repeats=max(1, len(runs)),
    )
    for name in ("data", "model", "training"):
        report[name] |= settings.get(name, {})
    report["notes"] = settings.get("notes", []) + ([_SO_FAR] if status == "unfinished" else [])
    history = read_lines(first.metrics) if first.metrics.exists() else []
    report["clipping"] = clipping(history, summary.run["plan"]["clip_norm"])
    report["learning"] = {"private": learning(history)} if history else None
    conditions = summary.segments[-1].conditions
    report["versions"] = {name: value for name, value in conditions.items() if name != "program"}
    return report


def _settings(folder: RunFolder) -> dict[str, Any]:
    path = folder.resolved
    try:
        found = yaml.safe_load(path.read_text()) if path.exists() else {}
    except (OSError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        raise ValueError(f"{path} must be a whole YAML document: {words}.") from None
    return found.get("report", {}) if isinstance(found, dict) else {}
