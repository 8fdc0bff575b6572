"""Correlated noise as a factorisation of prefix sums: coefficients, sensitivity, loss; no JAX."""

from trustml.noise.matrix_factorization.optimise import best_strategy
from trustml.noise.matrix_factorization.strategy import KINDS, Strategy

__all__ = ["KINDS", "Strategy", "best_strategy"]
