"""Write the weights of a run for other programs, with a model card."""

import argparse
import hashlib
from pathlib import Path

from trustml.cli.options import add_output, show_json
from trustml.recipes.train.run import read_resolved
from trustml.training.runs.folder import RunFolder

DESCRIPTION = """\
Writes the private weights of a finished run as model.safetensors, which any program that reads
that format loads, with config.json (network, labels, tokenizer) and a model card, README.md, in
Hugging Face's format: data, plan, promise, utility. Language models are written as transformers
reads them, with their tokenizer and with adapters merged.

Keys and metrics stay behind. The scores on the card were measured without noise on rows outside
the training part; `--no-utility` leaves them out."""

EXAMPLES = """\
examples:
  trustml export runs/snips-1 --out model
  trustml export runs/snips-1 --out model --license apache-2.0 --no-utility"""


_OWN_FILES = [
    ("model.safetensors", "the weights, float32, one tensor a parameter"),
    (
        "config.json",
        "network, sizes, labels and tokenizer, as trustml.models.joint.nlu.build takes",
    ),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml export`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--repeat", type=int, default=1, help="which of several; default: 1")
    parser.add_argument("--license", help="SPDX name for the card")
    parser.add_argument(
        "--utility",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="print scores on the card",
    )
    add_output(parser)


def run(chosen: argparse.Namespace) -> int:
    """Writes the files."""
    from trustml.report import model_card, read_report, write_json, write_text

    folder, out = chosen.run_folder, chosen.out
    report = read_report(folder)
    if not 1 <= chosen.repeat <= report.run.repeats:
        raise ValueError(f"`--repeat` must be from 1 to {report.run.repeats}, got {chosen.repeat}.")
    place = RunFolder(folder).repeats(report.run.repeats)[chosen.repeat - 1]
    if report.status == "unfinished":
        raise ValueError(
            f"`RUN` must be a finished run, got {folder}, which is unfinished. Go on with it by "
            f"`trustml train --resume {folder}`."
        )
    weights, canaries = _of_the_model(_weights(place))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    config = _network(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    if "model" in config:
        files = _write_language_model(out, config, RunFolder(folder).tokenizer, place, canaries)
    else:
        out.mkdir(exist_ok=True)
        (out / "model.safetensors").write_bytes(weights)
        write_json(out / "config.json", config)
        files = _OWN_FILES
    card = model_card(report, files=files, licence=chosen.license, utility=chosen.utility)
    write_text(out / "README.md", card)
    names = [*(name for name, _ in files), "README.md"]
    if chosen.json:
        show_json({"folder": str(out), "files": names, "promise": report.privacy.statement})
    else:
        print(f"Written to {out}: {', '.join(names)}.\n{report.privacy.statement}")
    return 0


def _write_language_model(
    out: Path, config: dict, tokenizer: Path, place: RunFolder, canaries: int
):
    """In the layout of transformers, adapters merged; returns the files and what they are."""
    import jax

    from trustml.models.pretrained.saving import save_pretrained
    from trustml.recipes.train.canaries import model_of, shapes_with
    from trustml.recipes.train.text_models import rebuilt
    from trustml.training.runs.weights import load_weights

    found = rebuilt(config, tokenizer)
    like = jax.eval_shape(found.network.init, jax.random.key(0))
    kept = load_weights(place.weights, shapes_with(like, canaries))
    save_pretrained(out, found._replace(params=model_of(kept, canaries)))
    known = dict(_OWN_FILES) | {
        "model.safetensors": "the weights, float32, in the names of transformers",
        "config.json": "sizes and labels, as transformers and trustml.models.from_pretrained read",
    }
    names = sorted(path.name for path in out.iterdir())
    return [(name, known.get(name, "of the tokenizer")) for name in names]


def _weights(place: RunFolder) -> bytes:
    """The weights that the ledger says the run ended with, and no others."""
    from trustml.training.runs.ledger import read_ledger, summarize

    path = place.weights
    end = summarize(read_ledger(place.path)).end or {}
    try:
        found = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} must hold the run's weights: {error.strerror}.") from None
    if hashlib.sha256(found).hexdigest() != end.get("weights"):
        raise ValueError(
            f"{path} must be the weights that the run ended with, got others, which its promise "
            "does not cover. Restore the file from a backup."
        )
    return found


def _of_the_model(weights: bytes) -> tuple[bytes, int]:
    """A file without the gradient canaries that an audit left in it, and how many those were."""
    from safetensors.numpy import load, save

    from trustml.recipes.train.canaries import VECTOR, without_canaries

    found = load(weights)
    if VECTOR not in found:
        return weights, 0
    return save(without_canaries(found)), len(found[VECTOR])


def _network(folder: Path) -> dict:
    """What rebuilds the network: nothing here was read off the rows."""
    path = RunFolder(folder).resolved
    if not path.exists():
        raise ValueError(
            f"`RUN` must be a folder of `trustml train`, got {folder} without {path.name}."
        )
    return read_resolved(folder)["network"]
