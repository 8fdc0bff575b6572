"""`python -m trustml.cli`: the command, where no script was installed."""

import sys

from trustml.cli.main import console

sys.exit(console())
