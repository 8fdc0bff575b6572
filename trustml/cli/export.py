"""Write the weights of a run for other programs, with a model card."""

from collections.abc import Sequence

from trustml.cli import flags
from trustml.cli.options import Output, show_json
from trustml.recipes.export import ExportConfig, export_run

_ABOUT = """\
Writes the private weights of a finished run as model.safetensors, which any program that reads
that format loads, with config.json (network, labels, tokenizer) and a model card, README.md, in
Hugging Face's format: data, plan, promise, utility. Language models are written as transformers
reads them, with their tokenizer and with adapters merged.

Keys and metrics stay behind. The scores on the card were measured without noise on rows outside
the training part; `--no-utility` leaves them out.

examples:
  trustml export runs/snips-1 --out model
  trustml export runs/snips-1 --out model --license apache-2.0 --no-utility"""


def run(arguments: Sequence[str]) -> int:
    """Writes the files and names them."""
    given, output = flags.parse(
        [ExportConfig, Output], arguments, prog="trustml export", about=_ABOUT
    )
    exported = export_run(ExportConfig.from_dict(given, "the flags"))
    if output.get("json"):
        show_json(exported.to_dict())
    else:
        print(f"Written to {exported.folder}: {', '.join(exported.files)}.\n{exported.promise}")
    return 0
