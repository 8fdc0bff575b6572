"""The `trustml` command: one thin module per sub-command."""

from trustml.cli.main import console as console
from trustml.cli.main import main as main
