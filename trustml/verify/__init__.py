"""Re-computes published values and the library's own guarantees on this machine."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from trustml.verify.accounting import accounting_checks
from trustml.verify.audits import audit_checks
from trustml.verify.bugs import bug_checks
from trustml.verify.contributions import worst_contributions
from trustml.verify.exactness import all_architectures
from trustml.verify.noise import noise_checks
from trustml.verify.resume import survivals

CHECKS: dict[str, Callable[[], Iterable[Any]]] = {
    "exactness": lambda: itertools.chain(all_architectures(), worst_contributions()),
    "accounting": accounting_checks,
    "noise": noise_checks,
    "audits": audit_checks,
    "bugs": bug_checks,
    "resume": survivals,
}


class CheckResult(NamedTuple):
    """One check: its rows are named tuples of several kinds, each with `holds`."""

    name: str
    rows: tuple[Any, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every row holds."""
        return all(row.holds for row in self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as `trustml verify --json` prints them."""
        return [row._asdict() | {"holds": row.holds} for row in self.rows]


def run_checks(names: Sequence[str] = ()) -> Iterator[CheckResult]:
    """The results of some checks, or of all, each as soon as it is known.

    >>> list(run_checks(["nothing"]))
    Traceback (most recent call last):
    ...
    ValueError: `CHECK` must be any of exactness, accounting, noise, audits, bugs, resume, got \
'nothing'.

    Raises:
      ValueError: A name is unknown; nothing is checked then.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise ValueError(f"`CHECK` must be any of {', '.join(CHECKS)}, got {unknown[0]!r}.")
    for name in names or CHECKS:
        start = time.perf_counter()
        rows = tuple(CHECKS[name]())
        yield CheckResult(name, rows, time.perf_counter() - start)
