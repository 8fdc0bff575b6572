"""Networks on tables for `trustml train`."""

import dataclasses
from typing import Any

from trustml.data.examples import Examples
from trustml.models.tasks import Task, table_task
from trustml.recipes.train.models import PublicData


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableModel:
    """A logistic regression or a small network on the columns of a table.

    Args:
      network: "linear" or "mlp".
      features: Width of the hidden layer of "mlp".
    """

    network: str = "linear"
    features: int = 64

    max_length = 0  # a record has no length

    def build(self, schema: Examples, public: PublicData | None = None) -> Task:
        """The task for data with the schema of `schema`; it needs no public text."""
        del public
        return table_task(schema, network=self.network, features=self.features)

    def describe(self) -> dict[str, Any]:
        """Kind and sizes, for the report."""
        sizes = {} if self.network == "linear" else {"features": self.features}
        return {"network": self.network, **sizes}

    def with_pretraining(self, pretrain: bool | None, preset: str) -> "TableModel":
        """The same model, which has no pretraining.

        Raises:
          ValueError: `pretrain` is True.
        """
        if pretrain:
            raise ValueError(f"`--pretrain` must be off for the preset {preset!r}, a table's.")
        return self

    def with_max_length(self, length: int) -> "TableModel":
        """Refused: a record has no length.

        Raises:
          ValueError: Always.
        """
        raise ValueError(f"`--max-length` must be left out for a table, got {length}.")

    def with_trainable(self, trainable: str | None) -> "TableModel":
        """The same model, since all leaves are trained.

        Raises:
          ValueError: `trainable` is another choice.
        """
        if trainable not in (None, "all"):
            raise ValueError(f"`--trainable` must be all for a table, got {trainable!r}.")
        return self
