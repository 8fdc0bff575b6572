"""What a recipe asks of a model, whichever kind it is."""

from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from trustml.data.examples import Examples
from trustml.models.tasks import Task


class PublicData(NamedTuple):
    """How a model may read public text and weights."""

    data_dir: str | None = None
    download: bool = False
    quiet: bool = False  # no progress


@runtime_checkable
class TaskModel(Protocol):
    """A model that a preset names: small on hashed words, or a language model with a head."""

    @property
    def max_length(self) -> int:
        """Words or tokens that it reads of a row."""

    @property
    def pretraining_steps(self) -> str | None:
        """The training on public rows that its start takes, in words; None where it takes none."""

    def build(self, schema: Examples, public: PublicData) -> Task:
        """The network and what it needs for data under the schema of `schema`.

        Raises:
          ValueError: The model cannot do the task, or cannot be read.
        """

    def trainable_leaves(self, config: dict[str, Any]) -> Any:
        """The leaves of the network of `config` that are trained; None for all."""

    def check_names(self, names: list[str]) -> None:
        """Refuses a choice of `trainable_leaves` that matches no parameter.

        Raises:
          ValueError: It matches none of `names`.
        """

    def describe(self) -> dict[str, Any]:
        """Kind and sizes, for the report."""

    def with_pretraining(self, pretrain: bool | None, preset: str) -> Self:
        """The model with or without a pretrained start; None leaves it as it is.

        Raises:
          ValueError: It has no such start.
        """

    def with_max_length(self, length: int) -> Self:
        """The model that reads `length` words or tokens of a row."""

    def with_trainable(self, trainable: str | None) -> Self:
        """The model with another choice of what is trained; None leaves it as it is.

        Raises:
          ValueError: It has no such choice.
        """
