"""Re-computes published values and the library's own guarantees on this machine."""

from trustml.verify.accounting import accounting_checks
from trustml.verify.exactness import all_architectures
from trustml.verify.noise import noise_checks
from trustml.verify.resume import survivals

CHECKS = {
    "exactness": all_architectures,
    "accounting": accounting_checks,
    "noise": noise_checks,
    "resume": survivals,
}
