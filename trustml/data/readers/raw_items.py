"""Items between the files and `Items`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from trustml.data.content import Content

OpenFile = Callable[[str], Content]


@dataclasses.dataclass(frozen=True)
class RawItems:
    """Rows, lists and arrays, each as `Items` describes them."""

    rows: list[Any] = dataclasses.field(default_factory=list)
    lists: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
