"""Which rows of a stored head the classes and tags of a network are."""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trustml.models.pretrained import tensor_names as names
from trustml.models.pretrained.checkpoints import Tensors
from trustml.models.transformers.config import ModelConfig

_PARTS = {
    "classify": {"head/": "labels"},
    "tag": {"head/": "tags"},
    "nlu": {"head/intent/": "labels", "head/slots/": "tags"},
}
_DEFAULT = re.compile(r"LABEL_\d+")
# transformers' classes that name different heads alike.
_ALIKE = {
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "": "ForMultipleChoice",
}


class Rows(NamedTuple):
    """The rows of the file that labels take, in the labels' order; None for all as they are."""

    order: tuple[int, ...] | None = None

    def of(self, leaf: str, array: np.ndarray) -> np.ndarray:
        """A leaf of a head with an entry per label, in the order of the labels."""
        if self.order is None:
            return array
        chosen = np.asarray(self.order)
        array = array[..., chosen]
        return array[chosen] if leaf.endswith("/transitions") else array


def stored_head(config: ModelConfig, head: str, source: Tensors) -> ModelConfig | None:
    """The configuration with the labels that the files' head has; None if that is another head.

    Labels without names are LABEL_0, ..., as transformers calls them.

    Raises:
      ValueError: Names of another number than the head has rows.
    """
    if head not in _ALIKE:
        return config
    if config.written_for.endswith(tuple(end for kind, end in _ALIKE.items() if kind != head)):
        return None
    (place,) = names.places(config, head, ["head/classifier/kernel"]).values()
    if place.name not in source.files:
        return config
    named = (head == "tag" and config.tags) or config.labels
    count = source.shape(place.name)[0]
    if not named:
        return dataclasses.replace(config, labels=tuple(f"LABEL_{i}" for i in range(count)))
    if len(named) != count:
        raise ValueError(
            f"{source.files[place.name]} must hold `{place.name}` with {len(named)} rows, one for "
            f"each label of config.json, got {count}; correct `id2label`, or take files of one "
            "model."
        )
    return config


def rows_of(stored: ModelConfig | None, config: ModelConfig, head: str) -> dict[str, Rows | None]:
    """Rows by the start of the names of leaves; None where such leaves start anew.

    Args:
      stored: As `stored_head` gives it.
      config: With the labels and tags that are wanted.
      head: The head's name.
    """
    found: dict[str, Rows | None] = {}
    for start, kind in _PARTS.get(head, {}).items():
        had = () if stored is None else getattr(stored, kind)
        if head == "tag" and stored is not None:
            had = had or stored.labels
        found[start] = _matched(had, getattr(config, kind))
    return found


def taken(rows: dict[str, Rows | None], leaf: str) -> Rows | None:
    """Those of a leaf; leaves without an entry per label are taken as they are."""
    if "/dense/" in leaf:
        return Rows()
    return next((one for start, one in rows.items() if leaf.startswith(start)), Rows())


def _matched(had: Sequence[str], wanted: Sequence[str]) -> Rows | None:
    if len(had) != len(wanted):
        return None
    if had == wanted or all(map(_DEFAULT.fullmatch, had)):
        return Rows()
    for same in (str, str.casefold):  # "POSITIVE" is "positive", unless there are both
        places = {same(name): place for place, name in enumerate(had)}
        order = tuple(places[same(name)] for name in wanted if same(name) in places)
        if sorted(order) == list(range(len(had))):
            return Rows(order)
    return None  # rows of other labels are numbers that mean something else
