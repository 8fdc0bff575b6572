"""The jaxpr rewriting behind `clipped_grad`: clipped sums without per-unit gradients."""

from trustml.bookkeeping.clusters import clusters_of as clusters_of
from trustml.bookkeeping.engine import Bounded as Bounded
from trustml.bookkeeping.engine import Kept as Kept
from trustml.bookkeeping.engine import book_keep as book_keep
from trustml.bookkeeping.ghost import auto as auto
from trustml.bookkeeping.ghost import ghost as ghost
from trustml.bookkeeping.trace import read_loss as read_loss
