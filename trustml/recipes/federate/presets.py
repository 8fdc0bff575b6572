"""Rates of clients and server for each kind of model."""

import dataclasses

from trustml.recipes.train.feature_models import FeatureModel
from trustml.recipes.train.models import TaskModel
from trustml.recipes.train.table_models import TableModel
from trustml.recipes.train.text_models import MINI, TextModel
from trustml.recipes.train.word_models import WordModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedTraining:
    """Training of clients.

    Args:
      client_rate: Learning rate of the clients' SGD.
      batch_size: Rows of a local step.
      clip_norm: Bound of one client's update, with a plan.
      tuned_on: How they were chosen.
    """

    client_rate: float
    batch_size: int = 10
    clip_norm: float = 0.5
    tuned_on: str


_USUAL = "a usual rate of SGD on clients; not chosen on these data"
_TUNED = {
    WordModel: FederatedTraining(client_rate=0.3, tuned_on=_USUAL),
    FeatureModel: FederatedTraining(client_rate=0.3, tuned_on=_USUAL),
    TableModel: FederatedTraining(client_rate=0.1, tuned_on=_USUAL),
    TextModel: FederatedTraining(
        client_rate=0.3,
        tuned_on="chosen of two by a run each on shakespeare_roles, evaluated on its validation "
        "part; there this tuning saw the data",
    ),
}
_PRETRAINED = FederatedTraining(
    client_rate=0.01, tuned_on="usual for pretrained weights; not chosen on these data"
)


def federated_training(model: TaskModel) -> FederatedTraining:
    """The rates for a model.

    >>> federated_training(TextModel(name="mini-gpt2")).batch_size
    10
    """
    if isinstance(model, TextModel) and model.name not in MINI:
        return _PRETRAINED
    return _TUNED[type(model)]
