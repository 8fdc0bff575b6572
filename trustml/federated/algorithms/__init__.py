"""Federated algorithms, one small file each."""

from trustml.federated.algorithms.algorithm import Algorithm as Algorithm
from trustml.federated.algorithms.fedavg import fedavg as fedavg
from trustml.federated.algorithms.fedbuff import fedbuff as fedbuff
from trustml.federated.algorithms.fedopt import fedadagrad as fedadagrad
from trustml.federated.algorithms.fedopt import fedadam as fedadam
from trustml.federated.algorithms.fedopt import fedyogi as fedyogi
from trustml.federated.algorithms.fedper import fedper as fedper
from trustml.federated.algorithms.local_privacy import locally_private as locally_private
from trustml.federated.algorithms.mimelite import mimelite as mimelite
from trustml.federated.algorithms.qfedavg import qfedavg as qfedavg
from trustml.federated.algorithms.robust import krum as krum
from trustml.federated.algorithms.robust import median as median
from trustml.federated.algorithms.robust import robust as robust
from trustml.federated.algorithms.robust import trimmed_mean as trimmed_mean
from trustml.federated.algorithms.scaffold import scaffold as scaffold
