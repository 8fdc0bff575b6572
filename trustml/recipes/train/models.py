"""The interface of models in recipes."""

from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from trustml.data.examples import Examples
from trustml.models.tasks import Task


class PublicData(NamedTuple):
    """Access to public text and weights, and where features are kept."""

    data_dir: str | None = None
    download: bool = False
    quiet: bool = False  # no progress
    feature_cache: str | None = None  # folder that keeps features, which are private


class TaskModel(Protocol):
    """A model of a preset: hashed words, a language model, features with a head, or a table."""

    @property
    def max_length(self) -> int:
        """Largest number of words or tokens of a row."""

    def build(self, schema: Examples, public: PublicData) -> Task:
        """The task for data with the schema of `schema`.

        Raises:
          ValueError: The model does not support the task, or cannot be read.
        """

    def describe(self) -> dict[str, Any]:
        """Kind and sizes, for the report."""

    def with_pretraining(self, pretrain: bool | None, preset: str) -> Self:
        """The model with or without pretraining; None keeps it as it is.

        Raises:
          ValueError: It has no pretraining.
        """

    def with_max_length(self, length: int) -> Self:
        """The model with another `max_length`."""

    def with_trainable(self, trainable: str | None) -> Self:
        """The model with another choice of trained leaves; None keeps it as it is.

        Raises:
          ValueError: The model does not support the choice.
        """


@runtime_checkable
class PartlyTrained(Protocol):
    """A model of which a part of the weights may be trained."""

    def trainable_leaves(self, config: dict[str, Any]) -> Any:
        """The trained leaves of the network of `config`; None for all."""

    def check_names(self, names: list[str]) -> None:
        """Refuses a choice of trained leaves that matches no parameter.

        Raises:
          ValueError: It matches none of `names`.
        """


def trainable_leaves(model: TaskModel, config: dict[str, Any]) -> Any:
    """The trained leaves of the network of `config`; None for all."""
    return model.trainable_leaves(config) if isinstance(model, PartlyTrained) else None
