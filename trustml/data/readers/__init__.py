"""Readers of the catalogue's files, one module a family of sets."""
