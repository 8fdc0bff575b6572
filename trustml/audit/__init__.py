"""What a model gives away: attacks on it, each with an interval that says how sure it is."""

from trustml.audit.intervals import Estimate as Estimate
from trustml.audit.intervals import clopper_pearson as clopper_pearson
from trustml.audit.membership import MembershipResult as MembershipResult
from trustml.audit.membership import TprAtFpr as TprAtFpr
from trustml.audit.membership import loss_threshold_attack as loss_threshold_attack
from trustml.audit.membership import unit_losses as unit_losses
from trustml.audit.one_run import OneRunResult as OneRunResult
from trustml.audit.one_run import one_run_audit as one_run_audit
from trustml.audit.one_run import one_run_epsilon as one_run_epsilon
from trustml.audit.one_run import one_run_p_value as one_run_p_value
from trustml.audit.roc import Roc as Roc
from trustml.audit.roc import area_under_curve as area_under_curve
from trustml.audit.roc import roc_curve as roc_curve
