"""Re-computes published values and the library's own guarantees on this machine."""
