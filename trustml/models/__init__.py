"""Networks, tokenizers and tasks on text; no module here depends on privacy.

Every network reads one unit without a batch axis, so `clipped_grad` and `private_step` take its
loss as it is.
"""

from trustml.models.feature_cache import FeatureCache as FeatureCache
from trustml.models.joint.char_tagger import build_char_tagger as build_char_tagger
from trustml.models.network import Network as Network
from trustml.models.pretrained.loading import Pretrained as Pretrained
from trustml.models.pretrained.loading import from_pretrained as from_pretrained
from trustml.models.pretrained.saving import save_pretrained as save_pretrained
from trustml.models.pretrained.sentence import SentenceEncoder as SentenceEncoder
from trustml.models.tokenizers.text_tokenizer import TextTokenizer as TextTokenizer
from trustml.models.transformers.adapters import all_but as all_but
from trustml.models.transformers.adapters import bitfit as bitfit
from trustml.models.transformers.adapters import count_trainable as count_trainable
from trustml.models.transformers.adapters import last_layers as last_layers
from trustml.models.transformers.adapters import lora_only as lora_only
from trustml.models.transformers.adapters import matching as matching
from trustml.models.transformers.config import ModelConfig as ModelConfig
from trustml.models.transformers.generation import generate as generate
from trustml.models.transformers.language import build_language_model as build_language_model
from trustml.models.transformers.layers import Lora as Lora
from trustml.models.transformers.layers import Options as Options
from trustml.models.transformers.lora import merge_lora as merge_lora
