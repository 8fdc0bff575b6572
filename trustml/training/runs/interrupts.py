"""Ctrl-C between two steps: the step in progress ends, its state is saved, nothing is repeated."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def after_a_step() -> Iterator[Callable[[], bool]]:
    """A function for `pause` of `fit`: whether Ctrl-C or SIGTERM came.

    A second Ctrl-C leaves at once; so does the first where handlers cannot be set, outside the
    main thread. What stood before is restored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    asked = threading.Event()

    def ask(number, frame):
        asked.set()
        print("interrupted: saving after this step; again to leave at once", file=sys.stderr)
        for kind in kinds:
            signal.signal(kind, signal.default_int_handler)

    try:
        for kind in kinds:
            signal.signal(kind, ask)
        yield asked.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if asked.is_set():  # it came after the last step: the training is done, what follows can wait
        raise KeyboardInterrupt
