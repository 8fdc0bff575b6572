"""Estimates with intervals: how sure a figure is."""
