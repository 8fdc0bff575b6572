"""Bounded sums over units: the one idea that private training, federation and fairness share."""

from trustml.clipping.bounds import clip as clip
from trustml.clipping.bounds import layer_bounds as layer_bounds
from trustml.clipping.gradient import ClippedGrad as ClippedGrad
from trustml.clipping.gradient import clipped_grad as clipped_grad
from trustml.clipping.sums import BoundedSum as BoundedSum
from trustml.clipping.sums import UnitInfo as UnitInfo
from trustml.clipping.sums import bounded_sum as bounded_sum
from trustml.clipping.trainable import combine as combine
from trustml.clipping.trainable import partition as partition
