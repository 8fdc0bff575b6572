"""trustml: private, federated and fair machine learning on one JAX core."""

__version__ = "0.1.0"

from trustml.clipping import bounded_sum as bounded_sum
from trustml.clipping import clip as clip
from trustml.clipping import clipped_grad as clipped_grad
from trustml.plan import PrivacyPlan as PrivacyPlan
