"""Estimates with intervals, the bootstrap and rank correlation, on NumPy and scipy."""

from trustml.stats.bootstrap import percentile_estimate as percentile_estimate
from trustml.stats.bootstrap import pigeonhole_counts as pigeonhole_counts
from trustml.stats.bootstrap import resample as resample
from trustml.stats.correlation import Correlation as Correlation
from trustml.stats.correlation import rank_correlation as rank_correlation
from trustml.stats.estimate import Estimate as Estimate
from trustml.stats.estimate import interval_name as interval_name
from trustml.stats.intervals import check_confidence as check_confidence
from trustml.stats.intervals import clopper_pearson as clopper_pearson
from trustml.stats.intervals import mean_estimate as mean_estimate
from trustml.stats.intervals import rate_at_least as rate_at_least
from trustml.stats.intervals import rate_at_most as rate_at_most
from trustml.stats.intervals import wilson_interval as wilson_interval
