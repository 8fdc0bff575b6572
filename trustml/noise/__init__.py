"""Gaussian noise from a ChaCha counter stream: 256-bit keys, float32 values, no hidden state."""

from trustml.noise.box_muller import SUPPORT, gaussian, gaussian_like, tail_delta, tail_probability
from trustml.noise.correlated import CorrelatedNoise, CorrelatedState, correlated_noise
from trustml.noise.keys import check_key, key_from_seed, new_key
from trustml.noise.matrix_factorization import Strategy, best_strategy
from trustml.noise.transform import NoiseState, add_gaussian_noise

__all__ = [
    "SUPPORT",
    "CorrelatedNoise",
    "CorrelatedState",
    "NoiseState",
    "Strategy",
    "add_gaussian_noise",
    "best_strategy",
    "check_key",
    "correlated_noise",
    "gaussian",
    "gaussian_like",
    "key_from_seed",
    "new_key",
    "tail_delta",
    "tail_probability",
]
