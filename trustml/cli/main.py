"""Runs one command, and turns errors into one line and an exit code."""

import os
import signal
import sys
from collections.abc import Sequence

from trustml.cli import (
    audit,
    data,
    export,
    federate,
    flags,
    models,
    plan,
    predict,
    report,
    train,
    verify,
)
from trustml.formatting import one_line

COMMANDS = {
    "train": train,
    "federate": federate,
    "predict": predict,
    "plan": plan,
    "data": data,
    "models": models,
    "report": report,
    "audit": audit,
    "export": export,
    "verify": verify,
}

_ABOUT = """\
Private, federated and fair machine learning on one JAX core.

Exit codes: 0 done, 1 a check does not hold, 2 bad input, 130 interrupted."""

# What a user can mend: shown as one line. Anything else is our fault and keeps its traceback.
_EXPECTED = (ValueError, TypeError, OSError, NotImplementedError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = " ".join(["trustml", *(one for one in arguments[:1] if one in COMMANDS)])
    try:
        return flags.run_command(COMMANDS, arguments, prog="trustml", about=_ABOUT)
    except KeyboardInterrupt as stop:
        what = str(stop) or "nothing was written"
        print(f"{name}: interrupted; {what}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; what is left to flush has no one to go to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _EXPECTED as error:
        if os.environ.get("TRUSTML_TRACEBACK"):
            raise
        line = one_line(error)
        print(f"{name}: error: {line}", file=sys.stderr)
        return 2


def console() -> int:
    """The installed command: `main`, and out at once after an interrupt or a polite kill."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main()
    if code == 130:
        sys.stdout.flush()
        sys.stderr.flush()
        # XLA's threads may still compile; leaving Python in order under them crashed (seen).
        os._exit(code)
    return code
