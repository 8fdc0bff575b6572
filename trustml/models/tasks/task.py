"""A task with its data's schema and a network for it: what a trainer and a judge need, no more."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from trustml.data.examples import Examples
from trustml.metrics import SCORINGS, Scoring
from trustml.models.network import Network
from trustml.models.tokenizers.text_tokenizer import TextTokenizer

KINDS = tuple(SCORINGS)


class Encoded(NamedTuple):
    """Rows as a network reads them.

    Attributes:
      arrays: Leading axis = piece of a row; all of one length.
      row_of: Row of the data that each piece was cut from, int64 [piece]; most rows give one.
    """

    arrays: dict[str, np.ndarray]
    row_of: np.ndarray

    def take(self, pieces: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of some pieces."""
        return {name: leaf[pieces] for name, leaf in self.arrays.items()}


class Task(NamedTuple):
    """A kind of task, and a network for one data set.

    Attributes:
      kind: One of `KINDS`.
      network: Its `loss` reads one piece of what `encode` gives.
      encode: Examples to arrays, for training and for attacks by the loss.
      predict: `(params, examples, quick)` to what `Scoring.counts` reads; `quick` may leave out
        what takes long.
      start: seed to the weights to start from; no private row is read.
      config: What rebuilds the network, as plain values for JSON.
      disclosures: What else than training saw data, and where ids come from: for a statement.
      tokenizer: Of a language model; public.
    """

    kind: str
    network: Network
    encode: Callable[[Examples], Encoded]
    predict: Callable[[Any, Examples, bool], Any]
    start: Callable[[int], Any]
    config: dict[str, Any]
    disclosures: tuple[str, ...]
    tokenizer: TextTokenizer | None = None

    @property
    def scoring(self) -> Scoring:
        """How predictions are scored."""
        return SCORINGS[self.kind]

    def counts(
        self, params: Any, examples: Examples, *, quick: bool = False
    ) -> Float[np.ndarray, "row count"]:
        """What the network's predictions on `examples` count for; private if the rows are."""
        return self.scoring.counts(examples.rows, self.predict(params, examples, quick))
