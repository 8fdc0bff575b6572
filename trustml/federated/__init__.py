"""Training across devices or organisations: a round is a bounded sum over clients."""

from trustml.federated.algorithms import Algorithm as Algorithm
from trustml.federated.algorithms import fedadagrad as fedadagrad
from trustml.federated.algorithms import fedadam as fedadam
from trustml.federated.algorithms import fedavg as fedavg
from trustml.federated.algorithms import fedbuff as fedbuff
from trustml.federated.algorithms import fedper as fedper
from trustml.federated.algorithms import fedyogi as fedyogi
from trustml.federated.algorithms import krum as krum
from trustml.federated.algorithms import locally_private as locally_private
from trustml.federated.algorithms import median as median
from trustml.federated.algorithms import mimelite as mimelite
from trustml.federated.algorithms import qfedavg as qfedavg
from trustml.federated.algorithms import robust as robust
from trustml.federated.algorithms import scaffold as scaffold
from trustml.federated.algorithms import trimmed_mean as trimmed_mean
from trustml.federated.asynchronous import Asynchronous as Asynchronous
from trustml.federated.clients import Clients as Clients
from trustml.federated.rounds import Round as Round
from trustml.federated.rounds import rounds as rounds
from trustml.federated.schedule import Schedule as Schedule
from trustml.federated.selection import Selection as Selection
from trustml.federated.step import FederatedStep as FederatedStep
