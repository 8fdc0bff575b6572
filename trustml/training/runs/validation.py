"""Checks before a run in a folder is begun or continued."""

from pathlib import Path
from typing import Any

from trustml.clipping.gradient import TUNE
from trustml.training.checks import AUTO
from trustml.training.runs.entries import Summary
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import Ledger, LedgerError, read_ledger, summarize
from trustml.training.runs.metrics_log import read_lines
from trustml.training.train_step import TrainStep

# 2 renames fields of the plan: num_microbatches, cycle_length, discrete_gaussian.
# 3 may have entries `release` before the run.
SCHEMA = 3


def check_folder(folder: RunFolder, resume: bool) -> None:
    """Refuses a folder that is none, or that holds a run which must not be touched.

    A ledger of releases alone is no run: a schema may be learned before the training begins.

    Raises:
      NotADirectoryError: It is a file.
      FileExistsError: It holds a run and `resume` is false.
      LedgerError: It holds a run without its ledger, or one that is damaged.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise NotADirectoryError(f"`out` must be a folder, got the file {folder}.")
    traces = any(map(_is_there, [folder.metrics, folder.secret, folder.checkpoints]))
    ledger = _is_there(folder.ledger)
    begun = traces or (ledger and not resume and bool(summarize(read_ledger(folder.path)).run))
    if begun and not resume:
        raise FileExistsError(
            f"`out` must be a new folder, got {folder}, which holds a run. Continue it with "
            "`resume=True`, or name another folder."
        )
    if traces and not ledger:
        raise LedgerError(
            f"`out` must hold a run with its {folder.ledger.name}, got {folder} without: what was "
            "released is not known. Restore it from a backup, or start a new run elsewhere."
        )


def check_settled(step: TrainStep) -> None:
    """Refuses a step that would measure its strategy anew when the run is continued.

    Raises:
      ValueError: Its strategy is "tune", or it measures how many clients to compute at once.
    """
    if step.measures_width and step.physical_batch_size == AUTO:
        raise ValueError(
            "`clients_at_once` must be a number before a run in a folder, which could not be "
            f"repeated otherwise, got {AUTO!r}. One is quickest on most CPUs."
        )
    if step.strategy == TUNE:
        raise ValueError(
            "`strategy` must be settled before a run in a folder, which could not be repeated "
            f"otherwise, got {TUNE!r}. Tune a step without a folder and pass its `strategy`."
        )


def ledger_in(folder: RunFolder) -> Ledger:
    """The open ledger of `folder`, made if it is not there."""
    try:
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # metrics are private quantities
        return Ledger(folder.ledger)
    except BlockingIOError:
        raise
    except OSError as error:
        raise type(error)(
            f"`out` must be a folder that can be written to, got {folder}: {error.strerror}."
        ) from None


def _is_there(path: Path) -> bool:
    return path.is_dir() or (path.exists() and path.stat().st_size > 0)


def check_tail(folder: RunFolder, summary: Summary) -> None:
    """Refuses a ledger whose last lines are missing: what other files hold shows it.

    Raises:
      LedgerError: A checkpoint or a metric is of a step that the ledger does not count.
    """
    traces = [folder.metrics, folder.checkpoints] + ([] if summary.run else [folder.secret])
    if not summary.segments and any(map(_is_there, traces)):
        raise LedgerError(
            f"{folder.ledger} holds no step, but {folder} holds traces of some: lines are missing. "
            "Restore it from a backup; do not continue this run."
        )
    counted = max((segment.stop for segment in summary.segments), default=0)
    saved = folder.checkpoints.glob("[0-9]*")
    steps = [int(path.name) for path in saved if path.name.isdigit()]
    if folder.metrics.exists():
        steps += [entry["step"] for entry in read_lines(folder.metrics)[-1:]]
    if max(steps, default=0) > counted:
        raise LedgerError(
            f"{folder.ledger} ends at step {counted}, but step {max(steps)} left its traces: lines "
            "are missing. Restore it from a backup; do not continue this run."
        )


def check_same(folder: RunFolder, run: dict[str, Any], step: TrainStep, data: str) -> None:
    """Refuses a run of another format, kind, plan or data.

    Raises:
      ValueError: The message names what differs.
    """
    if run.get("schema") != SCHEMA:
        raise ValueError(
            f"`out` must hold a run of format {SCHEMA}, got {folder} of format "
            f"{run.get('schema')!r}. Continue it with the version of trustml that began it."
        )
    if run["private_training"] != step.private:
        kinds = {True: "with privacy", False: "without"}
        raise ValueError(
            f"`step` must train {kinds[run['private_training']]} as the run in {folder} did, got "
            f"one that trains {kinds[step.private]}."
        )
    if run["plan_fingerprint"] != step.plan.fingerprint:
        new, old = step.plan.to_dict(), run["plan"]
        apart = [name for name in new if new[name] != old.get(name)]
        values = ", ".join(f"{name}={new[name]!r} (the run: {old.get(name)!r})" for name in apart)
        raise ValueError(
            f"`plan` must be that of the run in {folder}, got {values}. A budget takes no steps "
            "but its own: start a new run, whose cost adds to this one's."
        )
    if run["data"] != data:
        raise ValueError(
            f"`train` must be the data of the run in {folder}, got other data (or the same in "
            "another order or type). Start a new run elsewhere."
        )


def check_frozen(folder: RunFolder, run: dict[str, Any], frozen: str | None) -> None:
    """Refuses weights that the run does not train and that differ from those it began with.

    Raises:
      ValueError: They differ: checkpoints hold trained weights alone.
    """
    if "frozen" in run and run["frozen"] != frozen:
        raise ValueError(
            f"`params` must hold the frozen weights that the run in {folder} began with, got "
            "others. Load the same pretrained weights again."
        )
