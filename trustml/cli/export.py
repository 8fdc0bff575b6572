"""Write the weights of a run for other programs, with a model card."""

import argparse
from pathlib import Path

from trustml.cli.options import add_output, show_json

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
    """Writes the files and names them."""
    from trustml.recipes.export import ExportConfig, export

    exported = export(
        ExportConfig(
            run=chosen.run_folder,
            out=chosen.out,
            repeat=chosen.repeat,
            license=chosen.license,
            utility=chosen.utility,
        )
    )
    if chosen.json:
        show_json(exported.to_dict())
    else:
        print(f"Written to {exported.folder}: {', '.join(exported.files)}.\n{exported.promise}")
    return 0
