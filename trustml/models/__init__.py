"""Networks and how well they do; nothing here knows of privacy.

Every network treats one unit without a batch axis: a loss that `clipped_grad` and `private_step`
take as it is.
"""

from trustml.models.adapters import all_but as all_but
from trustml.models.adapters import bitfit as bitfit
from trustml.models.adapters import count_trainable as count_trainable
from trustml.models.adapters import last_layers as last_layers
from trustml.models.adapters import lora_only as lora_only
from trustml.models.adapters import matching as matching
from trustml.models.char_tagger import build_char_tagger as build_char_tagger
from trustml.models.config import ModelConfig as ModelConfig
from trustml.models.generation import generate as generate
from trustml.models.language import build_language_model as build_language_model
from trustml.models.layers import Lora as Lora
from trustml.models.layers import Options as Options
from trustml.models.lora import merge_lora as merge_lora
from trustml.models.network import Network as Network
from trustml.models.pretrained import Pretrained as Pretrained
from trustml.models.pretrained import from_pretrained as from_pretrained
from trustml.models.saving import save_pretrained as save_pretrained
from trustml.models.text_tokenizer import TextTokenizer as TextTokenizer
