"""Corpora of assistant utterances as examples of a task."""

from trustml.data.corpus import UNKNOWN_USER, Corpus
from trustml.data.examples import Examples, Tagged


def examples_of(corpus: Corpus, part: str, task: str = "nlu") -> Examples:
    """A corpus as examples for intents and slots, or for slots alone.

    >>> from trustml.data import synthetic
    >>> examples_of(synthetic.generate(train=3, valid=1, test=1).train, "train").task
    'nlu'

    Args:
      corpus: The rows.
      part: "train", "valid" or "test".
      task: "nlu", or "tag" for the slots alone.

    Raises:
      DataError: Another task.
    """
    rows = corpus.utterances
    said = rows if task == "nlu" else tuple(Tagged(row.tokens, row.tags) for row in rows)
    known = all(row.user != UNKNOWN_USER for row in rows)
    return Examples(
        name=corpus.name,
        part=part,
        task=task,
        rows=said,
        labels=corpus.intents if task == "nlu" else corpus.slots,
        slots=corpus.slots if task == "nlu" else (),
        unit=corpus.privacy_unit,
        owner_kind="user" if known else None,
        owners=tuple(row.user for row in rows) if known else None,
        groups=corpus.groups,
        group_of=tuple(row.group for row in rows),
        synthetic=corpus.synthetic,
        source=corpus.source,
    )
