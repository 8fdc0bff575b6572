"""Canary extraction: secrets read back out of a trained model, and how exposed they are."""

from trustml.audit.extraction.exposure import Extrapolated as Extrapolated
from trustml.audit.extraction.exposure import SkewNormal as SkewNormal
from trustml.audit.extraction.exposure import exposure_by_extrapolation as exposure_by_extrapolation
from trustml.audit.extraction.exposure import exposure_by_rank as exposure_by_rank
from trustml.audit.extraction.guessing import Recovery as Recovery
from trustml.audit.extraction.guessing import all_codes as all_codes
from trustml.audit.extraction.guessing import code_number as code_number
from trustml.audit.extraction.guessing import score_codes as score_codes
from trustml.audit.extraction.guessing import score_guesses as score_guesses
from trustml.audit.extraction.inversion import Descent as Descent
from trustml.audit.extraction.inversion import Inversion as Inversion
from trustml.audit.extraction.inversion import invert_model as invert_model
from trustml.audit.extraction.inversion import relaxed_loss as relaxed_loss
from trustml.audit.extraction.planting import Planted as Planted
from trustml.audit.extraction.planting import insert_canaries as insert_canaries
from trustml.audit.extraction.templates import Canary as Canary
from trustml.audit.extraction.templates import Template as Template
from trustml.audit.extraction.templates import draw_canary as draw_canary
from trustml.audit.extraction.templates import make_template as make_template
from trustml.audit.extraction.white_box import Target as Target
from trustml.audit.extraction.white_box import WhiteBox as WhiteBox
from trustml.audit.extraction.white_box import attack_target as attack_target
from trustml.audit.extraction.white_box import open_tagger as open_tagger
from trustml.audit.extraction.white_box import tagged_units as tagged_units
