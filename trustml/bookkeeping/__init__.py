"""The jaxpr rewriting behind `clipped_grad`: clipped sums without per-unit gradients."""
