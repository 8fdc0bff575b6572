"""The only place where sampling, bound, noise and accounting meet."""

from trustml.plan.privacy_plan import PrivacyPlan as PrivacyPlan
