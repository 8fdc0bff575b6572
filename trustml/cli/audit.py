"""What attacks show of a model's privacy: their success, and the epsilon that they refute."""

from collections.abc import Sequence

from trustml.cli import audit_scores, audit_study, flags

COMMANDS = {"scores": audit_scores, "study": audit_study}
_ABOUT = """\
Audits privacy by attack: how well an attack tells members of the training data from others, and
the epsilon that this refutes, with the confidence and the assumptions of each figure. An audit that
finds little proves little.

examples:
  trustml audit scores scores.csv --claimed-epsilon 3 --delta 1e-5
  trustml audit study --data snips --data-dir DATA --out study
  trustml audit scores --help"""


def run(arguments: Sequence[str]) -> int:
    """Runs a sub-command."""
    return flags.run_command(COMMANDS, arguments, prog="trustml audit", about=_ABOUT)
