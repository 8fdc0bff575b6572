"""Kinds of task: each turns data into a network's loss, predictions and metrics."""

from trustml.models.tasks.tables import table_task as table_task
from trustml.models.tasks.task import KINDS as KINDS
from trustml.models.tasks.task import Encoded as Encoded
from trustml.models.tasks.task import Task as Task
from trustml.models.tasks.units import group_examples as group_examples
from trustml.models.tasks.units import unit_loss as unit_loss
from trustml.models.tasks.words import hashed_words_task as hashed_words_task
