"""The folder of a run: its name, its making, and the removal of temporary files."""

import contextlib
import shlex
import shutil
from pathlib import Path

from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.loading import name_of_data
from trustml.training.runs.folder import RunFolder

TRAIN, FEDERATE = "trustml train", "trustml federate"  # whose folder it is


def clean(folder: Path, *, repeats: int = 1, save_baseline: bool = False) -> None:
    """Removes files that only resuming needs, and the baseline's weights unless they are kept."""
    for each in RunFolder(folder).repeats(repeats):
        _remove(each.start)
        if not save_baseline:
            _remove(each.baseline.weights)
            _remove(each.baseline.checkpoints)


def new_folder(config: TrainConfig, out: Path | None, command: str = TRAIN) -> Path:
    """The folder for results: `out`, or the next free one; it does not make it.

    Args:
      config: Settings with data, from `trustml.recipes.train.loading.with_task`.
      out: A new or empty folder.
      command: Which command asks.

    Raises:
      OSError: `out` is a file, holds a run, or is not empty.
    """
    if out is None:
        return _next_folder(config)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"`--out` must be a folder, got the file {out}.")
    if RunFolder(out).holds_run():
        raise FileExistsError(
            f"`--out` must be a new folder, got {out}, which holds a run. Resume it by "
            f"`{command} --resume {out}`, or name another."
        )
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    return out


def _next_folder(config: TrainConfig) -> Path:
    number, data = 1, name_of_data(config)
    while Path("runs", f"{data}-{number}").exists():
        number += 1
    return Path("runs", f"{data}-{number}")


def make_folder(folder: Path, config: TrainConfig, *, automatic: bool) -> Path:
    """Makes the folder, readable by its owner alone, and returns it.

    With `automatic`, another process may have taken the name meanwhile; then the next one is taken.
    """
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=not automatic)
            return folder
        except FileExistsError:
            folder = _next_folder(config)


@contextlib.contextmanager
def resumable(folder: Path, command: str = TRAIN):
    """Adds to an interrupt or a failed write how to resume the run.

    Args:
      folder: Of the run.
      command: Which command trains.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_way_on(folder, command)) from None
    except OSError as error:
        raise OSError(f"{str(error).rstrip('.')}; {_way_on(folder, command)}") from error


def _way_on(folder: Path, command: str) -> str:
    files = RunFolder(folder)
    if files.resolved.exists():
        return f"go on with: {command} --resume {shlex.quote(str(folder))}"
    if files.schema.exists():
        return f"the budget of a schema is spent: add that of {folder}, and use {files.schema}"
    return f"start again; {folder} holds nothing of use"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
