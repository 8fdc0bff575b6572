"""Attacks that tell members of the training data from others, and the models they need."""

from trustml.audit.attacks.calibrated import calibrated_loss as calibrated_loss
from trustml.audit.attacks.language import TokenSignals as TokenSignals
from trustml.audit.attacks.language import min_k as min_k
from trustml.audit.attacks.language import min_k_plus_plus as min_k_plus_plus
from trustml.audit.attacks.language import text_likelihood as text_likelihood
from trustml.audit.attacks.language import token_signals as token_signals
from trustml.audit.attacks.language import zlib_ratio as zlib_ratio
from trustml.audit.attacks.learned import learned_attack as learned_attack
from trustml.audit.attacks.lira import lira as lira
from trustml.audit.attacks.pooling import pooled_result as pooled_result
from trustml.audit.attacks.rmia import informia as informia
from trustml.audit.attacks.rmia import rmia as rmia
from trustml.audit.attacks.rmia import tune_a as tune_a
from trustml.audit.attacks.shadows import Shadows as Shadows
from trustml.audit.attacks.shadows import model_values as model_values
from trustml.audit.attacks.shadows import train_shadows as train_shadows
from trustml.audit.attacks.signals import class_loss as class_loss
from trustml.audit.attacks.signals import logit_confidence as logit_confidence
from trustml.audit.attacks.signals import over_words as over_words
from trustml.audit.attacks.signals import true_class_probability as true_class_probability
from trustml.audit.attacks.slices import SlicedResult as SlicedResult
from trustml.audit.attacks.slices import by_slice as by_slice
from trustml.audit.attacks.targets import leave_one_out as leave_one_out
from trustml.audit.attacks.targets import split_scores as split_scores
