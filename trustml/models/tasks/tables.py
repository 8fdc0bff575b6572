"""The task on tables: a class for each record."""

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.data.tables import encode_table
from trustml.data.tables.encoding import category_sizes
from trustml.models.tabular import build_table_network
from trustml.models.tasks.task import TABLE, Encoded, Task, kept_by_part

_BATCH = 65_536  # rows per call of a prediction
_STATEMENT = "features: each value by its own row and the schema of the table, {how}"


def table_task(schema: Examples, *, network: str = "linear", features: int = 64) -> Task:
    """A task for a network on the columns of a table.

    >>> from trustml.data.rows import Record
    >>> from trustml.data.tables import NumberColumn, TableSchema
    >>> age = NumberColumn(name="age", low=0, high=100)
    >>> table = TableSchema(columns=(age,), label="income", labels=("low", "high"))
    >>> train = Examples(name="demo", split="train", task="tabular", unit="person", table=table,
    ...                  rows=(Record((30.0,), "low"), Record((None,), "high")))
    >>> task = table_task(train)
    >>> task.counts(task.start(0), train)[:, :2].tolist()
    [[1.0, 1.0], [0.0, 1.0]]

    Args:
      schema: Any part of the data; only its `table` is read, not its rows.
      network: "linear" or "mlp".
      features: Width of the hidden layer of "mlp".

    Returns:
      A task that predicts (classes, probabilities float32 [row, class]).

    Raises:
      ValueError: Examples of another task, or a schema with open parts.
    """
    table = schema.table
    if table is None or table.is_open:
        parts = "no table" if table is None else f"{', '.join(table.open_parts)} open"
        raise ValueError(f"`schema` must have a table whose every part is known, got {parts}.")
    sizes = category_sizes(table)
    made = build_table_network(
        network,
        numbers=len(table.columns) - len(sizes),
        categories=sizes,
        classes=len(schema.labels),
        features=features,
    )
    encoded = kept_by_part(_encode)

    def read(function, params, examples):
        arrays, found = encoded(examples).arrays, []
        for first in range(0, len(examples), _BATCH):
            part = {name: leaf[first : first + _BATCH] for name, leaf in arrays.items()}
            found.append(np.asarray(function(params, part)))
        return np.concatenate(found)

    def predict(params, examples, quick):
        del quick
        return schema.labels, read(made.predict, params, examples)

    every = jax.jit(jax.vmap(made.logits, (None, 0)))
    scores = lambda params, examples: read(every, params, examples)  # noqa: E731

    config = {
        "architectures": [TABLE],
        "task": "tabular",
        "kind": network,
        "features": features,
        "schema": table.to_dict(),
        "dtype": "float32",
    }
    how = "learned privately in part" if table.learned else "which is taken to be public"
    statements = (_STATEMENT.format(how=how), "start: zeros, or random weights")
    start = lambda seed: made.init(jax.random.key(seed))  # noqa: E731
    return Task("tabular", made, _encode, predict, start, config, statements, scores=scores)


def _encode(examples: Examples) -> Encoded:
    assert examples.table is not None
    arrays = encode_table(examples.rows, examples.table)  # type: ignore[arg-type]  # a `Table`
    return Encoded(arrays, np.arange(len(examples)))
