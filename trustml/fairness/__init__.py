"""Whom a model treats differently: group means, and gaps between groups with intervals."""

from trustml.fairness.embedding import shifted_score as shifted_score
from trustml.fairness.gaps import Gap as Gap
from trustml.fairness.gaps import GroupComparison as GroupComparison
from trustml.fairness.gaps import GroupMean as GroupMean
from trustml.fairness.gaps import accuracy_by_group as accuracy_by_group
from trustml.fairness.gaps import compare_means as compare_means
from trustml.fairness.sensitivity import SensitivityResult as SensitivityResult
from trustml.fairness.sensitivity import prediction_sensitivity as prediction_sensitivity
