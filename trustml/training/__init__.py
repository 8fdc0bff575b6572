"""Training with and without privacy: one step, one loop, the same draws."""

from trustml.training.batches import Batch as Batch
from trustml.training.fit import FitResult as FitResult
from trustml.training.fit import StepEvent as StepEvent
from trustml.training.fit import fit as fit
from trustml.training.fit import patience as patience
from trustml.training.mesh import fully_sharded as fully_sharded
from trustml.training.optimizers import adam_bias_corrected as adam_bias_corrected
from trustml.training.optimizers import dp_adam_bc as dp_adam_bc
from trustml.training.optimizers import (
    scale_by_adam_bias_corrected as scale_by_adam_bias_corrected,
)
from trustml.training.runs.ledger import LedgerError as LedgerError
from trustml.training.runs.ledger import read_ledger as read_ledger
from trustml.training.runs.ledger import summarize as summarize
from trustml.training.runs.weights import load_weights as load_weights
from trustml.training.runs.weights import save_weights as save_weights
from trustml.training.scaling import relative_scale_of as relative_scale_of
from trustml.training.scaling import scale_of as scale_of
from trustml.training.sources import RowSource as RowSource
from trustml.training.steps import baseline_step as baseline_step
from trustml.training.steps import private_step as private_step
from trustml.training.train_step import StepMetrics as StepMetrics
from trustml.training.train_step import TrainState as TrainState
from trustml.training.train_step import TrainStep as TrainStep
