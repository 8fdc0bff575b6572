"""What attacks show of a model's privacy: their success, and the epsilon that they refute."""

import argparse
import sys

from trustml.cli import audit_scores, audit_study

DESCRIPTION = """\
Audits privacy by attack: how well members of the training data are told from others, and the
epsilon that this refutes, with the confidence and the assumptions of each figure. An audit that
finds little proves little."""

EXAMPLES = """\
examples:
  trustml audit scores scores.csv --claimed-epsilon 3 --delta 1e-5
  trustml audit study --data snips --data-dir DATA --out study
  trustml audit scores --help"""

COMMANDS = {"scores": audit_scores, "study": audit_study}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of `trustml audit`."""
    parser.set_defaults(print_audit_help=parser.print_help)
    commands = parser.add_subparsers(dest="audit", metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=(module.__doc__ or "").strip().splitlines()[0],
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)


def run(chosen: argparse.Namespace) -> int:
    """Runs a sub-command; without one, says which there are."""
    if chosen.audit is None:
        chosen.print_audit_help(sys.stderr)
        return 2
    return COMMANDS[chosen.audit].run(chosen)
