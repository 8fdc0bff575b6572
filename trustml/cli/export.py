"""Write the weights of a run for other programs, with a model card."""

from collections.abc import Sequence

from trustml.cli import flags
from trustml.cli.options import Output, show_json
from trustml.recipes.export.run import ExportConfig, export_run

_ABOUT = """\
Writes the private weights of a finished run for other programs, with a model card, README.md, in
Hugging Face's format: data, plan, promise, evaluation, limits, and lines of Python that use it.

The formats: transformers (language models, with their tokenizer, adapters merged);
sentence-transformers (a frozen encoder, unchanged, and the private head on it); safetensors (the
weights, which any program reads, and config.json); jax (network and weights as one function, which
JAX alone runs on CPU, GPU or TPU) and onnx (the same for onnxruntime; it needs the extra onnx, and
jax2onnx by `pip install --no-deps jax2onnx`). The function takes any number of rows of tokens and
returns probabilities or scores.

Keys and metrics stay behind. The scores on the card were measured without noise on rows outside
the training part; `--no-utility` leaves them out.

examples:
  trustml export runs/snips-1 --out model
  trustml export runs/snips-1 --out model --to onnx
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
        print(f"Written to {exported.folder}: {', '.join(exported.files)}.\n{exported.statement}")
    return 0
