"""The only place where sampling, bound, noise and accounting meet."""

from trustml.plan.composition import composed_epsilon as composed_epsilon
from trustml.plan.privacy_plan import PrivacyPlan as PrivacyPlan
