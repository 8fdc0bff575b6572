"""Training with privacy and without, from settings to the trust report."""
