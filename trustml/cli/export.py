"""Write the weights of a run for other programs, with a model card."""

import argparse
from pathlib import Path

from trustml.cli.config import RESOLVED, read_resolved
from trustml.cli.options import add_output, show_json

DESCRIPTION = """\
Writes the private weights of a finished run as model.safetensors, which any program that reads
that format loads, with config.json (network, labels, tokenizer) and a model card, README.md, in
Hugging Face's format: data, plan, promise, utility.

Keys and metrics stay behind. The scores on the card were measured without noise on rows outside
the training part; `--no-utility` leaves them out."""

EXAMPLES = """\
examples:
  trustml export runs/snips-1 --out model
  trustml export runs/snips-1 --out model --license apache-2.0 --no-utility"""


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
    """Writes the three files."""
    from trustml.report import model_card, read_report, write_json, write_text
    from trustml.training.weights import WEIGHTS

    folder, out = chosen.run_folder, chosen.out
    report = read_report(folder)
    place = folder / f"repeat-{chosen.repeat}" if report["run"]["repeats"] > 1 else folder
    if report["status"] == "unfinished" or not (place / WEIGHTS).exists():
        raise ValueError(
            f"`RUN` must be a finished run with its {WEIGHTS}, got {folder}, which is "
            f"{report['status']}. Go on with it by `trustml train --resume {folder}`."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    config = _network(folder)
    files = [
        ("model.safetensors", "the weights, float32, one tensor a parameter"),
        ("config.json", "network, sizes, labels and tokenizer, as trustml.models.nlu.build takes"),
    ]
    card = model_card(report, files=files, licence=chosen.license, utility=chosen.utility)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes((place / WEIGHTS).read_bytes())
    write_json(out / "config.json", config)
    write_text(out / "README.md", card)
    names = ["model.safetensors", "config.json", "README.md"]
    if chosen.json:
        show_json({"folder": str(out), "files": names, "promise": report["privacy"]["statement"]})
    else:
        print(f"Written to {out}: {', '.join(names)}.\n{report['privacy']['statement']}")
    return 0


def _network(folder: Path) -> dict:
    """What rebuilds the network: nothing here was read off the rows."""
    if not (folder / RESOLVED).exists():
        raise ValueError(
            f"`RUN` must be a folder of `trustml train`, got {folder} without {RESOLVED}."
        )
    return read_resolved(folder)["network"]
