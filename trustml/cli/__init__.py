"""The `trustml` command: one thin module per sub-command."""

from trustml.cli.main import main as main
