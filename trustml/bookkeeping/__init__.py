"""The jaxpr rewriting behind `clipped_grad`: clipped sums without per-unit gradients."""

from trustml.bookkeeping.engine import book_keep as book_keep
