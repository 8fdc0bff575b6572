"""The only place where sampling, bound, noise and accounting meet."""

from trustml.plan.auto import AutoPlan as AutoPlan
from trustml.plan.auto import auto_plan as auto_plan
from trustml.plan.charges import Charge as Charge
from trustml.plan.composition import composed_epsilon as composed_epsilon
from trustml.plan.edp_sgd import edp_sgd as edp_sgd
from trustml.plan.histograms import HistogramPlan as HistogramPlan
from trustml.plan.privacy_plan import PrivacyPlan as PrivacyPlan
from trustml.plan.search import calibrate_search as calibrate_search
from trustml.plan.search import private_search as private_search
from trustml.plan.search import search_cost as search_cost
from trustml.plan.selection import Trials as Trials
