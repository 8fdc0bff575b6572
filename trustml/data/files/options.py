"""How to read own rows: their columns, labels and parts."""

import dataclasses
from pathlib import Path

from trustml.data.errors import DataError
from trustml.data.tables import TableSchema

ROW = "row"  # the privacy unit where no column names another
EVALUATED = 0.1  # share of the units to evaluate on


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How to read own rows; None stands for a guess where that is safe.

    >>> FileOptions(text="message", eval_split=0.2).unit
    'row'

    Args:
      task: What to learn; by default what the columns fit.
      text: Column of the text: of the tokens of "tag" and "nlu", the source of "seq2seq" and the
        context of "qa".
      label: Column of the label: of the tags of "tag", the target of "seq2seq".
      unit: "row", or the column whose rows with one value are one privacy unit.
      group: Column of the groups whose figures the report compares.
      labels: Every label that may occur, a public list; by default those of the rows.
      value_range: Ends of the numbers of "regression", public.
      table: Columns and classes of "tabular"; open parts are learned later.
      eval_split: Share of the units to evaluate on, or a file of rows for that; by default the
        test split of the source itself, or else a tenth.
      stratify: Whether each label has its share in every part.
      skip_bad_rows: Whether rows that cannot be used are left out and counted.

    Raises:
      DataError: A share is out of range, or labels repeat.
    """

    task: str | None = None
    text: str | None = None
    label: str | None = None
    unit: str = ROW
    group: str | None = None
    labels: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    table: TableSchema | None = None
    eval_split: float | Path | None = None
    stratify: bool = False
    skip_bad_rows: bool = False

    def __post_init__(self):
        if (self.task == "tabular") != (self.table is not None):
            raise DataError("`table` must be given for the task 'tabular', and for no other.")
        if (self.task == "regression") != (self.value_range is not None):
            raise DataError(
                "`--range` must be given for the task 'regression', and for no other: a "
                "range that is read off the rows would leak."
            )
        share = self.eval_split
        if isinstance(share, float | int) and not 0 < share <= 0.5:
            raise DataError(f"`eval_split` must be a share above 0, at most 0.5, got {share!r}.")
        if self.labels is not None and len(set(self.labels)) < max(2, len(self.labels)):
            raise DataError(
                f"`labels` must list two or more, each once, got {', '.join(self.labels)[:80]!r}."
            )

    @property
    def owner(self) -> str | None:
        """The column of the privacy unit; None where a row is one."""
        return None if self.unit == ROW else self.unit
