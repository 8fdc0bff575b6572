"""The private weights of a finished run as files for other programs, with a model card."""

from pathlib import Path
from typing import Any, NamedTuple

from trustml.recipes.finished import FinishedRun, finished_run
from trustml.recipes.settings import REQUIRED, Settings, knob, settings
from trustml.recipes.train.canaries import VECTOR, without_canaries
from trustml.report import model_card, write_json, write_text

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
    run = finished_run(config.run, config.repeat)
    out = config.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if "model" in run.network:
        files = _write_language_model(out, run)
    else:
        out.mkdir(exist_ok=True)
        (out / _MODEL).write_bytes(_without_canaries(run.training.weights.read_bytes()))
        write_json(out / _CONFIG, run.network)
        files = _FILES
    card = model_card(run.report, files=files, licence=config.license, utility=config.utility)
    write_text(out / _CARD, card)
    names = (*(name for name, _ in files), _CARD)
    return Exported(out, names, run.report.privacy.statement)


def _without_canaries(weights: bytes) -> bytes:
    """A file without the gradient canaries that an audit left in it."""
    from safetensors.numpy import load, save

    tensors = load(weights)
    return save(without_canaries(tensors)) if VECTOR in tensors else weights


def _write_language_model(out: Path, run: FinishedRun) -> list[tuple[str, str]]:
    """In the layout of transformers, adapters merged; returns the files and what they are."""
    import jax

    from trustml.models.pretrained.saving import save_pretrained
    from trustml.recipes.train.text_models import rebuilt

    model = rebuilt(run.network, run.folder.tokenizer)
    like = jax.eval_shape(model.network.init, jax.random.key(0))
    save_pretrained(out, model._replace(params=run.weights(like)))
    names = sorted(path.name for path in out.iterdir())
    return [(name, _FILES_OF_TRANSFORMERS.get(name, "of the tokenizer")) for name in names]
