"""Correlated noise as a factorisation of prefix sums: coefficients, sensitivity, loss; no JAX."""

from trustml.noise.strategies.optimise import best_strategy
from trustml.noise.strategies.strategy import KINDS, Strategy

__all__ = ["KINDS", "Strategy", "best_strategy"]
