"""The private weights of a finished run as files for other programs, with a model card."""

import hmac
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from trustml.recipes.export.targets import TARGETS, Target, default_target
from trustml.recipes.finished import FinishedRun, finished_run
from trustml.recipes.settings import REQUIRED, Settings, knob, settings
from trustml.report import ExportedFiles, model_card, write_text
from trustml.training.runs.ledger import read_ledger

_CARD = "README.md"


@settings
class ExportConfig(Settings):
    """A finished run, and what is written of it."""

    run: Path = knob(REQUIRED, "folder of a finished run", metavar="RUN", positional=True)
    out: Path = knob(REQUIRED, "new or empty folder for the files", metavar="FOLDER")
    to: str | None = knob(
        None,
        f"format: {', '.join(TARGETS)}",
        shown="transformers or sentence-transformers for their models, safetensors for others",
    )
    repeat: int = knob(1, "which of several repeats")
    license: str | None = knob(None, "SPDX name for the card")
    utility: bool = knob(True, "print scores on the card: they were measured without noise")
    fingerprint: bool = knob(
        True, "print a fingerprint of the data on the card, which only the run's folder can check"
    )


class Exported(NamedTuple):
    """Files that were written, and what is promised for the weights."""

    folder: Path
    format: str
    files: tuple[str, ...]
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml export --json` prints."""
        return self._asdict() | {"folder": str(self.folder), "files": list(self.files)}


def export_run(config: ExportConfig) -> Exported:
    """Writes weights, network and model card; keys, metrics and gradient canaries stay behind.

    >>> export_run(ExportConfig(run=Path("nowhere"), out=Path("model")))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `RUN` must be a folder of `trustml train` or `trustml.fit`, got nowhere, ...

    Args:
      config: The run, and what to write.

    Guarantee:
      Exactly the weights that the ledger names as the run's end are written: the promise is theirs.

    Raises:
      ValueError: The run has not ended, is damaged, its weights are not those it ended with, or
        its model cannot be written in the format.
      FileExistsError: `out` holds something.
    """
    run = finished_run(config.run, config.repeat)
    name, target = _target(config, run)
    out = config.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is complete: neither a reader nor a crash meets half a model.
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        files = _write(partial, target, run, config)
        os.chmod(partial, 0o755)  # mkdtemp shuts all other users out
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Exported(out, name, files, run.report.privacy.statement)


def _target(config: ExportConfig, run: FinishedRun) -> tuple[str, Target]:
    name = config.to or default_target(run)
    fitting = [each for each, target in TARGETS.items() if target.fits(run)]
    if name not in fitting:
        raise ValueError(
            f"`--to` must be one of {', '.join(fitting)} for this model, got {name!r}."
        )
    return name, TARGETS[name]


def _write(folder: Path, target: Target, run: FinishedRun, config: ExportConfig) -> tuple[str, ...]:
    described = target.write(folder, run)
    names = sorted(path.name for path in folder.iterdir())
    files = [(name, described.get(name, "of the tokenizer")) for name in names]
    usage = target.usage(run).replace("{folder}", config.out.name)
    exported = ExportedFiles(run.network["task"], target.library, files, usage)
    card = model_card(
        run.report,
        exported,
        licence=config.license,
        utility=config.utility,
        fingerprint=_fingerprint(run) if config.fingerprint else None,
    )
    write_text(folder / _CARD, card)
    return (*names, _CARD)


def _fingerprint(run: FinishedRun) -> str | None:
    """Of the data, under a key: the ledger's first hash, which covers a random id."""
    found, first = run.report.data.fingerprint, read_ledger(run.training.path)[0]
    return found and hmac.new(first["hash"].encode(), found.encode(), "sha256").hexdigest()
