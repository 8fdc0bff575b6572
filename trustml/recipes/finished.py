"""A finished run as others may use it: its private weights, and the promise that covers them."""

from pathlib import Path
from typing import Any, NamedTuple

from trustml.checksums import file_sha256
from trustml.recipes.train.canaries import VECTOR, model_of, shapes_with
from trustml.recipes.train.run import read_resolved
from trustml.report import Report, read_report
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import read_ledger, summarize
from trustml.training.runs.weights import load_weights


class FinishedRun(NamedTuple):
    """A run that has ended, and one of its private trainings."""

    folder: RunFolder
    training: RunFolder  # of the chosen repeat
    report: Report
    resolved: dict[str, Any]  # settings, and what rebuilds the network: nothing read off the rows

    @property
    def network(self) -> dict[str, Any]:
        """The `Task.config` of the run."""
        return self.resolved["network"]

    @property
    def architecture(self) -> str:
        """What the network is: the first of its `architectures`, by which it is rebuilt."""
        return self.network["architectures"][0]

    @property
    def published_network(self) -> dict[str, Any]:
        """The same, of an encoder its name alone: the path of its folder is nobody's business."""
        named = {"encoder": Path(self.network["encoder"]).name} if "encoder" in self.network else {}
        return {**self.network, **named}

    def weights(self, like: Any) -> Any:
        """The private weights without gradient canaries, in the shape of `like`.

        Raises:
          ValueError: The network has other weights.
        """
        canaries = self._canaries()
        return model_of(load_weights(self.training.weights, shapes_with(like, canaries)), canaries)

    def _canaries(self) -> int:
        """How many gradient canaries an audit left in the file."""
        from safetensors import safe_open

        with safe_open(self.training.weights, "numpy") as file:
            return file.get_slice(VECTOR).get_shape()[0] if VECTOR in file.keys() else 0  # noqa: SIM118


def finished_run(run: Path, repeat: int = 1) -> FinishedRun:
    """A run's private training, whose weights are those that the ledger ended with.

    >>> finished_run(Path("nowhere"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `RUN` must be a folder of `trustml train` or `trustml.fit`, got nowhere, ...

    Args:
      run: Folder of `trustml train`.
      repeat: Which of several repeats, from 1.

    Guarantee:
      The weights are exactly those that the ledger names as the run's end: the promise is theirs.

    Raises:
      ValueError: The run has not ended, is damaged, or its weights are not those it ended with.
    """
    report, folder = read_report(run), RunFolder(run)
    if folder.periods(2)[0].ledger.exists():
        raise ValueError(
            f"`RUN` must be one training, got {run}, which trained period after period: its "
            "weights have no ledger of their own."
        )
    training = _training(folder, repeat, report)
    _check_weights(training)
    if not folder.resolved.exists():
        raise ValueError(
            f"`RUN` must be a folder of `trustml train`, got {run} without {folder.resolved.name}."
        )
    return FinishedRun(folder, training, report, read_resolved(run))


def _training(folder: RunFolder, repeat: int, report: Report) -> RunFolder:
    repeats = report.run.repeats
    if not 1 <= repeat <= repeats:
        raise ValueError(f"`--repeat` must be from 1 to {repeats}, got {repeat}.")
    if report.status == "unfinished":
        raise ValueError(
            f"`RUN` must be a finished run, got {folder}, which is unfinished. Go on with it "
            f"by `trustml train --resume {folder}`."
        )
    return folder.repeats(repeats)[repeat - 1]


def _check_weights(training: RunFolder) -> None:
    """Refuses weights that are not those that the ledger says the run ended with."""
    path = training.weights
    end = summarize(read_ledger(training.path)).end or {}
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ValueError(f"{path} must hold the run's weights: {error.strerror}.") from None
    if found != end.get("weights"):
        raise ValueError(
            f"{path} must be the weights that the run ended with, got others, which its promise "
            "does not cover. Restore the file from a backup."
        )
