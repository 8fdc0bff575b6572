"""Gaussian noise from a ChaCha counter stream: 256-bit keys, float32 values, no hidden state."""

from trustml.noise.box_muller import SUPPORT, gaussian, gaussian_like, tail_delta, tail_probability
from trustml.noise.keys import check_key, key_from_seed, new_key
from trustml.noise.transform import NoiseState, add_gaussian_noise

__all__ = [
    "SUPPORT",
    "NoiseState",
    "add_gaussian_noise",
    "check_key",
    "gaussian",
    "gaussian_like",
    "key_from_seed",
    "new_key",
    "tail_delta",
    "tail_probability",
]
