"""From rows to clients: who holds which row, drawn once and kept in a file."""

from trustml.federated.partition.files import load_partition as load_partition
from trustml.federated.partition.files import save_partition as save_partition
from trustml.federated.partition.methods import METHODS as METHODS
from trustml.federated.partition.methods import parse_partition as parse_partition
from trustml.federated.partition.methods import partition as partition
from trustml.federated.partition.result import Partition as Partition
from trustml.federated.partition.result import PartitionMethod as PartitionMethod
from trustml.federated.partition.result import data_fingerprint as data_fingerprint
