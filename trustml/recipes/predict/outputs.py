"""What each kind of task predicts for a row; the field names are the columns of files."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, softmax

from trustml.data.examples import Examples
from trustml.models.tasks import Task


class Label(NamedTuple):
    """The class of a text."""

    label: str
    probability: float  # of that class, by the model; it need not be calibrated


class Labels(NamedTuple):
    """The classes of a text: none, one or several."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]  # of each of them


class Number(NamedTuple):
    """The number of a text, within the public range."""

    value: float


class Tags(NamedTuple):
    """The entities of a sentence."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]  # BIO, one a token


class Intent(NamedTuple):
    """The intent and the slots of a request."""

    label: str
    probability: float
    tokens: tuple[str, ...]
    tags: tuple[str, ...]  # BIO, one a token


class FoundAnswer(NamedTuple):
    """The answer to a question, word for word from its context."""

    answer: str


class Likelihood(NamedTuple):
    """How likely a text is."""

    log_likelihood: float  # nats, the sum over its tokens
    tokens: int  # of the model
    perplexity: float  # per token


class Written(NamedTuple):
    """The text that the model writes."""

    text: str


Prediction = Label | Labels | Number | Tags | Intent | FoundAnswer | Likelihood | Written


class Output(NamedTuple):
    """How a kind of task predicts."""

    kind: type[Any]
    predict: Callable[[Task, Any, Examples], list[Any]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its fields."""
        return self.kind._fields


def probabilities(task: Task, params: Any, examples: Examples) -> Float[np.ndarray, "row class"]:
    """The probability of each class, float64; of "multilabel" each by itself.

    Raises:
      ValueError: The task has no classes.
    """
    if task.scores is None:
        raise ValueError(f"`task` must have classes, got {task.kind!r}.")
    scores = task.scores(params, examples).astype(np.float64)
    return expit(scores) if task.kind == "multilabel" else softmax(scores, axis=1)


def _labels(task: Task, params: Any, examples: Examples) -> list[Label]:
    found = probabilities(task, params, examples)
    best = found.argmax(1)
    labels = (examples.labels[index] for index in best)
    return list(map(Label, labels, found[np.arange(len(best)), best].tolist()))


def _several(task: Task, params: Any, examples: Examples) -> list[Labels]:
    chances = probabilities(task, params, examples).tolist()
    _, true = task.predict(params, examples, False)
    chosen = [np.flatnonzero(each) for each in true]
    return [
        Labels(tuple(examples.labels[one] for one in each), tuple(row[one] for one in each))
        for each, row in zip(chosen, chances, strict=True)
    ]


def _numbers(task: Task, params: Any, examples: Examples) -> list[Number]:
    return list(map(Number, task.predict(params, examples, False).tolist()))


def _tags(task: Task, params: Any, examples: Examples) -> list[Tags]:
    tags = task.predict(params, examples, False)
    return [Tags(row.tokens, each) for row, each in zip(examples.rows, tags, strict=True)]


def _intents(task: Task, params: Any, examples: Examples) -> list[Intent]:
    labels = _labels(task, params, examples)
    _, tags = task.predict(params, examples, False)
    return [
        Intent(*label, row.tokens, each)
        for label, row, each in zip(labels, examples.rows, tags, strict=True)
    ]


def _answers(task: Task, params: Any, examples: Examples) -> list[FoundAnswer]:
    return list(map(FoundAnswer, task.predict(params, examples, False)))


def _likelihoods(task: Task, params: Any, examples: Examples) -> list[Likelihood]:
    found = np.asarray(task.predict(params, examples, False)).tolist()
    return [Likelihood(-nll, int(tokens), _perplexity(nll, tokens)) for nll, tokens, _ in found]


def _perplexity(nll: float, tokens: float) -> float:
    try:
        return math.exp(nll / tokens) if tokens else math.nan
    except OverflowError:
        return math.inf


def _texts(task: Task, params: Any, examples: Examples) -> list[Written]:
    texts, _ = task.predict(params, examples, False)
    return list(map(Written, texts))


OUTPUTS: dict[str, Output] = {
    "classify": Output(Label, _labels),
    "multilabel": Output(Labels, _several),
    "regression": Output(Number, _numbers),
    "tabular": Output(Label, _labels),
    "tag": Output(Tags, _tags),
    "nlu": Output(Intent, _intents),
    "qa": Output(FoundAnswer, _answers),
    "lm": Output(Likelihood, _likelihoods),
    "seq2seq": Output(Written, _texts),
}
