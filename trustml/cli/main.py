"""Runs one command, and turns errors into one line and an exit code."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from trustml.cli import audit, data, export, flags, plan, report, train, verify

COMMANDS = {
    "train": train,
    "plan": plan,
    "data": data,
    "report": report,
    "audit": audit,
    "export": export,
    "verify": verify,
}

# What a user can mend: shown as one line. Anything else is our fault and keeps its traceback.
EXPECTED = (ValueError, TypeError, OSError, NotImplementedError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        flags.show_commands(COMMANDS, prog="trustml", about=_ABOUT, error=not arguments)
        return 0 if arguments else 2
    name = f"trustml {arguments[0]}" if arguments[0] in COMMANDS else "trustml"
    try:
        return _run(flags.dispatch(COMMANDS, arguments, prog="trustml"), arguments)
    except KeyboardInterrupt as stop:
        what = str(stop) or "nothing was written"
        print(f"{name}: interrupted; {what}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; what is left to flush has no one to go to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except EXPECTED as error:
        if os.environ.get("TRUSTML_TRACEBACK"):
            raise
        line = " ".join(str(error).split()) or type(error).__name__
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


_ABOUT = """\
Private, federated and fair machine learning on one JAX core.

Exit codes: 0 done, 1 a check of `verify` does not hold, 2 bad input, 130 interrupted."""


def _run(module, arguments: Sequence[str]) -> int:
    if not hasattr(module, "add_arguments"):
        return module.run(arguments[1:])
    command = argparse.ArgumentParser(
        prog=f"trustml {arguments[0]}",
        usage=getattr(module, "USAGE", None),
        description=module.DESCRIPTION,
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(command)
    return module.run(command.parse_args(arguments[1:]))
