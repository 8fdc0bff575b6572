"""What is released before a training: the ledger says so, and a table's schema is learned."""

import hashlib
import secrets as random_bytes

import numpy as np

from trustml.data.tables import Table, TableSchema
from trustml.noise import key_from_seed, new_key
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.train.learned_schema import learn_schema
from trustml.report import write_text
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import Ledger
from trustml.training.runs.resume import now
from trustml.training.runs.validation import SCHEMA

_HEAD = "Learned in part from the rows, within the budget of this run: its ledger holds the cost."


def release_schema(experiment: Experiment, folder: RunFolder) -> TableSchema:
    """Learns the schema from the training units of an experiment, and writes it to `folder`.

    The ledger counts the release before it is made: a crash between the two costs budget, never
    privacy. The units are those of the training, each with its first rows, as in the training.

    Args:
      experiment: Of `resolve`, with open parts.
      folder: Of the run.

    Raises:
      ValueError: Fewer than two classes show. The budget is spent.
    """
    config, train, plan = experiment.config, experiment.parts.train, experiment.schema_plan
    assert plan is not None
    assert experiment.opened is not None
    assert isinstance(train.rows, Table)
    units = train.units(experiment.unit)
    inside = np.delete(np.arange(len(units)), experiment.canaries.left_out)
    rows = [row for unit in inside for row in units[unit][: plan.rows_per_unit]]
    record_charges(experiment, folder)
    key = new_key() if config.seed is None else key_from_seed(_seed_of(config.seed))
    schema = learn_schema(train.rows.take(rows), experiment.opened, plan, key)
    write_text(folder.schema, schema.to_toml(_HEAD))
    return schema


def record_charges(experiment: Experiment, folder: RunFolder) -> None:
    """Writes into the ledger of each training what was or will be released before it.

    Args:
      experiment: Of `resolve`.
      folder: Of the run.
    """
    when = now()
    named = [(random_bytes.token_hex(16), charge) for charge in experiment.charges]
    for training in folder.repeats(experiment.config.repeats):  # each was trained with it
        training.path.mkdir(mode=0o700, exist_ok=True)
        with Ledger(training.ledger) as ledger:
            for identifier, charge in named:
                ledger.append(
                    "release",
                    **charge.to_dict(),
                    schema=SCHEMA,
                    id=identifier,
                    time=when,
                    source=experiment.parts.train.fingerprint,
                    private="source: who guesses the whole data can confirm the guess by a hash",
                )


def _seed_of(seed: int) -> int:
    """A seed whose noise key is not that of the training."""
    return int.from_bytes(hashlib.sha256(b"trustml schema, version 1\x00%d" % seed).digest())
