"""Predictions of the private model of a finished run: in Python, and from file to file."""
