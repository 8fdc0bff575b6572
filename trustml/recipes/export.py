"""The private weights of a finished run as files for other programs, with a model card."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from trustml.recipes.settings import REQUIRED, Settings, knob, settings
from trustml.recipes.train.run import read_resolved
from trustml.report import Report, model_card, read_report, write_json, write_text
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import read_ledger, summarize
from trustml.training.runs.weights import load_weights

_MODEL, _CONFIG, _CARD = "model.safetensors", "config.json", "README.md"
_FILES = [
    (_MODEL, "the weights, float32, one tensor a parameter"),
    (_CONFIG, "network, sizes, labels and tokenizer, as trustml.models.joint.nlu.build takes"),
]
_FILES_OF_TRANSFORMERS = dict(_FILES) | {
    _MODEL: "the weights, float32, in the names of transformers",
    _CONFIG: "sizes and labels, as transformers and trustml.models.from_pretrained read",
}


@settings
class ExportConfig(Settings):
    """A finished run, and what is written of it."""

    run: Path = knob(REQUIRED, "folder of a finished run", metavar="RUN", positional=True)
    out: Path = knob(REQUIRED, "new or empty folder for the files", metavar="FOLDER")
    repeat: int = knob(1, "which of several repeats")
    license: str | None = knob(None, "SPDX name for the card")
    utility: bool = knob(True, "print scores on the card: they were measured without noise")


class Exported(NamedTuple):
    """Files that were written, and what is promised for the weights."""

    folder: Path
    files: tuple[str, ...]
    promise: str

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml export --json` prints."""
        return {"folder": str(self.folder), "files": list(self.files), "promise": self.promise}


def export_run(config: ExportConfig) -> Exported:
    """Writes weights, network and model card; keys, metrics and gradient canaries stay behind.

    A network on hashed words is written as `trustml.models.joint.nlu.build` takes it, a language
    model as transformers reads it, with its tokenizer and with adapters merged.

    >>> export_run(ExportConfig(run=Path("nowhere"), out=Path("model")))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `RUN` must be a folder of `trustml train` or `trustml.fit`, got nowhere, ...

    Args:
      config: The run, and what to write.

    Guarantee:
      Exactly the weights that the ledger names as the run's end are written: the promise is theirs.

    Raises:
      ValueError: The run has not ended, is damaged, or its weights are not those it ended with.
      FileExistsError: `out` holds something.
    """
    report = read_report(config.run)
    training = _training(config, report)
    weights, canaries = _without_canaries(_read_weights(training))
    out = config.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    network = _network(config.run)
    out.parent.mkdir(parents=True, exist_ok=True)
    if "model" in network:
        tokenizer = RunFolder(config.run).tokenizer
        files = _write_language_model(out, network, tokenizer, training, canaries)
    else:
        out.mkdir(exist_ok=True)
        (out / _MODEL).write_bytes(weights)
        write_json(out / _CONFIG, network)
        files = _FILES
    card = model_card(report, files=files, licence=config.license, utility=config.utility)
    write_text(out / _CARD, card)
    names = (*(name for name, _ in files), _CARD)
    return Exported(out, names, report.privacy.statement)


def _training(config: ExportConfig, report: Report) -> RunFolder:
    """The folder of the private training that is exported."""
    repeats = report.run.repeats
    if not 1 <= config.repeat <= repeats:
        raise ValueError(f"`--repeat` must be from 1 to {repeats}, got {config.repeat}.")
    if report.status == "unfinished":
        raise ValueError(
            f"`RUN` must be a finished run, got {config.run}, which is unfinished. Go on with it "
            f"by `trustml train --resume {config.run}`."
        )
    return RunFolder(config.run).repeats(repeats)[config.repeat - 1]


def _read_weights(training: RunFolder) -> bytes:
    """The weights that the ledger says the run ended with, and no others."""
    path = training.weights
    end = summarize(read_ledger(training.path)).end or {}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} must hold the run's weights: {error.strerror}.") from None
    if hashlib.sha256(content).hexdigest() != end.get("weights"):
        raise ValueError(
            f"{path} must be the weights that the run ended with, got others, which its promise "
            "does not cover. Restore the file from a backup."
        )
    return content


def _without_canaries(weights: bytes) -> tuple[bytes, int]:
    """A file without the gradient canaries that an audit left in it, and how many those were."""
    from safetensors.numpy import load, save

    from trustml.recipes.train.canaries import VECTOR, without_canaries

    tensors = load(weights)
    if VECTOR not in tensors:
        return weights, 0
    return save(without_canaries(tensors)), len(tensors[VECTOR])


def _network(run: Path) -> dict[str, Any]:
    """What rebuilds the network: nothing here was read off the rows."""
    path = RunFolder(run).resolved
    if not path.exists():
        raise ValueError(
            f"`RUN` must be a folder of `trustml train`, got {run} without {path.name}."
        )
    return read_resolved(run)["network"]


def _write_language_model(
    out: Path, network: dict[str, Any], tokenizer: Path, training: RunFolder, canaries: int
) -> list[tuple[str, str]]:
    """In the layout of transformers, adapters merged; returns the files and what they are."""
    import jax

    from trustml.models.pretrained.saving import save_pretrained
    from trustml.recipes.train.canaries import model_of, shapes_with
    from trustml.recipes.train.text_models import rebuilt

    model = rebuilt(network, tokenizer)
    like = jax.eval_shape(model.network.init, jax.random.key(0))
    weights = load_weights(training.weights, shapes_with(like, canaries))
    save_pretrained(out, model._replace(params=model_of(weights, canaries)))
    names = sorted(path.name for path in out.iterdir())
    return [(name, _FILES_OF_TRANSFORMERS.get(name, "of the tokenizer")) for name in names]
