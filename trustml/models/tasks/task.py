"""A task: the schema of its data and a network for it, all that training and evaluation need."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from trustml.data.examples import Examples
from trustml.metrics import SCORINGS, Scoring
from trustml.models.network import Network
from trustml.models.tokenizers.text_tokenizer import TextTokenizer

KINDS = tuple(SCORINGS)
# What a network is, the first of `architectures` in `Task.config`: by it a run is rebuilt.
FEATURES = "trustml.models.features"
FINETUNED = "trustml.models.finetuning"
HASHED_WORDS = "trustml.models.joint.nlu"
LANGUAGE_MODEL = "trustml.models.transformers.language"
TABLE = "trustml.models.tabular"
_Result = TypeVar("_Result")


class Encoded(NamedTuple):
    """Rows as a network reads them.

    Attributes:
      arrays: Arrays [example, ...]; all have the same length.
      row_of: Row of the data that each example was cut from, int64 [example]. Most rows give one
        example; a long document gives several.
    """

    arrays: dict[str, np.ndarray]
    row_of: np.ndarray

    def take(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of some examples, by index."""
        return {name: leaf[examples] for name, leaf in self.arrays.items()}


class Task(NamedTuple):
    """A kind of task, and a network for one data set.

    Attributes:
      kind: One of `KINDS`.
      network: Its `loss` reads one example of what `encode` returns.
      encode: Examples to arrays, for training and for attacks by the loss.
      predict: Maps `(params, examples, quick)` to predictions for `Scoring.counts`. With `quick`
        it may leave out what takes long.
      start: Maps a seed to initial weights; it reads no private row.
      config: Plain values for JSON, from which the network can be rebuilt.
      disclosures: Lines for a statement: what data the initial weights and the ids come from.
      tokenizer: The public tokenizer of a language model.
      scores: Maps `(params, examples)` to the score of each class, float32 [row, class], before
        softmax (multilabel: before the sigmoid); None where a task has no classes.
    """

    kind: str
    network: Network
    encode: Callable[[Examples], Encoded]
    predict: Callable[[Any, Examples, bool], Any]
    start: Callable[[int], Any]
    config: dict[str, Any]
    disclosures: tuple[str, ...]
    tokenizer: TextTokenizer | None = None
    scores: Callable[[Any, Examples], Float[np.ndarray, "row class"]] | None = None

    @property
    def scoring(self) -> Scoring:
        """How predictions are scored."""
        return SCORINGS[self.kind]

    def counts(
        self, params: Any, examples: Examples, *, quick: bool = False
    ) -> Float[np.ndarray, "row count"]:
        """The counts of each row that `scoring` sums, from predictions; private if the rows are."""
        return self.scoring.counts(examples.rows, self.predict(params, examples, quick))


def kept_by_part(compute: Callable[[Examples], _Result]) -> Callable[[Examples], _Result]:
    """`compute`, whose results for the last four parts of the data stay in memory.

    A run evaluates the same parts many times.
    """
    return functools.lru_cache(maxsize=4)(compute)
