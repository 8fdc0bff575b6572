"""Training across devices or organisations: a round is a bounded sum over clients."""

from trustml.federated.local import LocalTraining as LocalTraining
from trustml.federated.rounds import FederatedState as FederatedState
from trustml.federated.rounds import FederatedStep as FederatedStep
from trustml.federated.rounds import RoundMetrics as RoundMetrics
from trustml.federated.rounds import federated_step as federated_step
from trustml.federated.rounds import private_federated_step as private_federated_step
from trustml.federated.users import Clients as Clients
from trustml.federated.users import drop_out as drop_out
from trustml.federated.users import split_by_user as split_by_user
