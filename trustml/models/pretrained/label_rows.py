"""Matches the classes and tags of a network with the rows of a stored head."""

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
# Classes of transformers whose heads have tensors of the same names.
_ALIKE = {
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "": "ForMultipleChoice",
}


class Rows(NamedTuple):
    """Rows of a stored head, in the order of the network's labels; None for all in stored order."""

    order: tuple[int, ...] | None = None

    def of(self, leaf: str, array: np.ndarray) -> np.ndarray:
        """A leaf of a head, with its entries in the order of the labels."""
        if self.order is None:
            return array
        chosen = np.asarray(self.order)
        array = array[..., chosen]
        return array[chosen] if leaf.endswith("/transitions") else array


def stored_head(config: ModelConfig, head: str, source: Tensors) -> ModelConfig | None:
    """The configuration with the labels of the stored head; None if that is another head.

    Labels without names become LABEL_0, ..., as in transformers.

    Raises:
      ValueError: The number of labels is not the head's number of rows.
    """
    if head not in _ALIKE:
        return config
    if config.written_for.endswith(tuple(end for kind, end in _ALIKE.items() if kind != head)):
        return None
    (stored,) = names.stored_leaves(config, head, ["head/classifier/kernel"]).values()
    if stored.name not in source.files:
        return config
    named = (head == "tag" and config.tags) or config.labels
    count = source.shape(stored.name)[0]
    if not named:
        return dataclasses.replace(config, labels=tuple(f"LABEL_{i}" for i in range(count)))
    if len(named) != count:
        raise ValueError(
            f"{source.files[stored.name]} must hold `{stored.name}` with {len(named)} rows, one "
            f"for each label of config.json, got {count}; correct `id2label`, or take files of one "
            "model."
        )
    return config


def rows_of(stored: ModelConfig | None, config: ModelConfig, head: str) -> dict[str, Rows | None]:
    """Rows by prefix of leaf names; None for leaves that start from random weights.

    Args:
      stored: The result of `stored_head`.
      config: Configuration with the labels and tags of the network.
      head: Name of the head.
    """
    rows: dict[str, Rows | None] = {}
    for start, kind in _PARTS.get(head, {}).items():
        had = () if stored is None else getattr(stored, kind)
        if head == "tag" and stored is not None:
            had = had or stored.labels
        rows[start] = _matched(had, getattr(config, kind))
    return rows


def taken(rows: dict[str, Rows | None], leaf: str) -> Rows | None:
    """The rows for a leaf; leaves without an entry per label keep all."""
    if "/dense/" in leaf:
        return Rows()
    return next((one for start, one in rows.items() if leaf.startswith(start)), Rows())


def _matched(had: Sequence[str], wanted: Sequence[str]) -> Rows | None:
    if len(had) != len(wanted):
        return None
    if had == wanted or all(map(_DEFAULT.fullmatch, had)):
        return Rows()
    for same in (str, str.casefold):  # "POSITIVE" matches "positive", unless both are labels
        rows = {same(name): row for row, name in enumerate(had)}
        order = tuple(rows[same(name)] for name in wanted if same(name) in rows)
        if sorted(order) == list(range(len(had))):
            return Rows(order)
    return None  # rows of other labels would start the head with wrong classes
