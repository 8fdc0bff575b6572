"""Re-computes published values and the library's own guarantees on this machine."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

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
