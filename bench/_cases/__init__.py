"""Networks to measure on: ordinary JAX losses of one example, which know nothing of privacy."""

from .base import Case as Case
from .pretrained import PRETRAINED as PRETRAINED
from .text import bert, bert_base, bilstm, gpt, gpt2_small, gpt_remat, gpt_untied, lora
from .vision import cnn, mlp, resnet

CASES = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "bilstm": bilstm,
    "bert": bert,
    "gpt": gpt,
    "gpt-untied": gpt_untied,
    "gpt-remat": gpt_remat,
    "lora": lora,
    "bert-base": bert_base,
    "gpt2-small": gpt2_small,
    **PRETRAINED,
}
