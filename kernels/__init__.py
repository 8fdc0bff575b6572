"""Numerical kernels: arrays in, arrays out; one operation per file, imports nothing of trustml."""
