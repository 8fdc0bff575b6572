"""trustml: private, federated and fair machine learning on one JAX core.

The rooms load when they are first named: `trustml.recipes`, `trustml.audit`, `trustml.fairness`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

from trustml.clipping import bounded_sum as bounded_sum
from trustml.clipping import clip as clip
from trustml.clipping import clipped_grad as clipped_grad
from trustml.plan import PrivacyPlan as PrivacyPlan
from trustml.training import baseline_step as baseline_step
from trustml.training import fit as fit
from trustml.training import private_step as private_step

_ROOMS = (
    "audit",
    "data",
    "fairness",
    "federated",
    "metrics",
    "models",
    "noise",
    "recipes",
    "report",
    "stats",
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"trustml.{name}")
    raise AttributeError(f"module 'trustml' has no attribute {name!r}")
