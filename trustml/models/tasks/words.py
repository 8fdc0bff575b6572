"""Tasks on hashed words, with the small networks of `trustml.models.joint.nlu`.

The hash needs no vocabulary, which could reveal the data. Training from random weights takes a
minute, so this is the way to start without pretrained weights.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.data.tokens import Tokenizer, hash_tokenizer, padded, token_arrays
from trustml.models.joint.nlu import build
from trustml.models.tasks.labels import PROBLEM_TYPES, label_array, num_outputs, read_labels
from trustml.models.tasks.task import HASHED_WORDS, Encoded, Task, kept_by_part
from trustml.models.transformers.problem_types import SINGLE

KINDS = (*PROBLEM_TYPES, "tag", "nlu")
_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks.

    >>> words("Don't panic!")
    ['Don', "'", 't', 'panic', '!']
    """
    return _WORD.findall(text)


def hashed_words_task(
    schema: Examples,
    *,
    network: str = "conv",
    sizes: dict[str, int],
    buckets: int,
    max_length: int = 16,
    evaluation_length: int = 32,
    slot_weight: float = 1.0,
    start: Callable[[Any, int], Any] | None = None,
    disclosures: Sequence[str] = ("start: random weights",),
) -> Task:
    """A task for a network that sums hashed ids of words.

    >>> from trustml.data import snips
    >>> examples = snips.generated(3)
    >>> sizes = {"features": 4, "layers": 1, "embedding": 4}
    >>> task = hashed_words_task(examples, sizes=sizes, buckets=16, max_length=5)
    >>> task.encode(examples).arrays["mask"].shape
    (3, 5)

    Args:
      schema: Any part of the data; only its task and labels are read, not its rows.
      network: "conv", "bilstm" or "transformer".
      sizes: `features`, `layers` and `embedding` of the network.
      buckets: Rows of each table of embeddings.
      max_length: Number of words of a row that are read in training.
      evaluation_length: The same in evaluation; later words are tagged "O".
      slot_weight: Weight of the loss per word, relative to the loss of the label.
      start: Maps `(network, seed)` to initial weights; random ones by default.
      disclosures: What data the initial weights come from.

    Raises:
      ValueError: Another kind of task, or a number out of range.
    """
    kind = schema.task
    if kind not in KINDS:
        raise ValueError(
            f"`schema` must be of a task for hashed words ({', '.join(KINDS)}), got {kind!r}. "
            "Choose a language model for it."
        )
    tokenizer = hash_tokenizer(buckets)
    labels, tags = _labels_and_tags(schema)
    made = build(
        network,
        table_sizes=tokenizer.sizes,
        intents=0 if kind == "tag" else num_outputs(schema),
        tags=tags,
        problem_type=PROBLEM_TYPES.get(kind, SINGLE),
        slot_weight=slot_weight,
        **sizes,
    )

    def encode(examples: Examples) -> Encoded:
        arrays = _encode(examples, tokenizer, labels, tags, max_length)
        return Encoded(arrays, np.arange(len(examples)))

    @kept_by_part
    def read(examples: Examples):
        return token_arrays(_Words(examples.rows), tokenizer, evaluation_length)

    def predict(params, examples, quick):
        del quick
        inputs = read(examples)
        return in_words(made.predict(params, inputs), examples, labels, tags)

    one = jax.jit(jax.vmap(lambda params, unit: made.logits(params, unit)[0], (None, 0)))

    def scores(params, examples):
        return np.asarray(one(params, read(examples)))

    config = {
        **_facts(schema, labels),
        "kind": network,
        "sizes": dict(sizes),
        "tokenizer": {"kind": "hash", "buckets": buckets},
        "max_length": evaluation_length,
    }
    begin = start or (lambda net, seed: net.init(jax.random.key(seed)))
    statements = (tokenizer.statement, *disclosures)
    return Task(
        kind,
        made,
        encode,
        predict,
        lambda seed: begin(made, seed),
        config,
        statements,
        scores=scores if labels else None,
    )


def _facts(schema: Examples, labels: Sequence[str]) -> dict[str, Any]:
    """What rebuilds the network, of the data alone."""
    slots = {"nlu": schema.slots, "tag": schema.labels}.get(schema.task, ())
    numbers = {} if schema.value_range is None else {"value_range": list(schema.value_range)}
    return {
        "architectures": [HASHED_WORDS],
        "task": schema.task,
        "intents": list(labels),
        "slots": list(slots),
        "dtype": "float32",
        **numbers,
    }


def _labels_and_tags(schema: Examples) -> tuple[tuple[str, ...], tuple[str, ...]]:
    labels = () if schema.task == "tag" else schema.labels
    return labels, schema.tags if schema.task in ("tag", "nlu") else ()


class _Words(Sequence[Sequence[str]]):
    """The words of each row, made when asked for: those of a million rows take a gigabyte."""

    def __init__(self, rows: Sequence[Any]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number):
        row = self._rows[number]
        return words(row.text) if hasattr(row, "text") else row.tokens


def _encode(examples, tokenizer: Tokenizer, labels, tags, length: int) -> dict[str, np.ndarray]:
    arrays = token_arrays(_Words(examples.rows), tokenizer, length)
    if tags:
        tag_ids = {tag: index for index, tag in enumerate(tags)}
        arrays["tags"] = padded(
            [[tag_ids[tag] for tag in row.tags] for row in examples.rows], length
        )
    if examples.task in PROBLEM_TYPES:
        name = "intent" if examples.task == "classify" else "label"
        arrays[name] = label_array(examples)
    elif labels:
        ids = {label: index for index, label in enumerate(labels)}
        arrays["intent"] = np.array([ids[row.intent] for row in examples.rows], np.int32)
    return arrays


def in_words(predicted, examples: Examples, labels, tags):
    """Predicted indices of labels and of tags as names; words beyond the tags are "O"."""
    label_of_rows, tags_of_rows = (None if part is None else np.asarray(part) for part in predicted)
    if tags_of_rows is None:
        return read_labels(examples, predicted[0])
    named = None if label_of_rows is None else [labels[index] for index in label_of_rows]
    rows = []
    for row, indices in zip(examples.rows, tags_of_rows, strict=True):
        row_tags = [tags[index] for index in indices[: len(row.tokens)]]
        rows.append((*row_tags, *("O",) * (len(row.tokens) - len(row_tags))))
    return rows if named is None else (named, rows)
