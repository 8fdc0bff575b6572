"""Tables of the names of our modules and tensors in Hugging Face's transformers."""

import re

from trustml.models.transformers.architectures import DECODERS, ROTARY

# Our module's path to theirs; {i} is a layer.
_BERT = {
    "embeddings/word": "{m}.embeddings.word_embeddings",
    "embeddings/position": "{m}.embeddings.position_embeddings",
    "embeddings/type": "{m}.embeddings.token_type_embeddings",
    "embeddings/norm": "{m}.embeddings.LayerNorm",
    "encoder/layer_{i}/attention/query": "{m}.encoder.layer.{i}.attention.self.query",
    "encoder/layer_{i}/attention/key": "{m}.encoder.layer.{i}.attention.self.key",
    "encoder/layer_{i}/attention/value": "{m}.encoder.layer.{i}.attention.self.value",
    "encoder/layer_{i}/attention/output": "{m}.encoder.layer.{i}.attention.output.dense",
    "encoder/layer_{i}/attention_norm": "{m}.encoder.layer.{i}.attention.output.LayerNorm",
    "encoder/layer_{i}/up": "{m}.encoder.layer.{i}.intermediate.dense",
    "encoder/layer_{i}/down": "{m}.encoder.layer.{i}.output.dense",
    "encoder/layer_{i}/output_norm": "{m}.encoder.layer.{i}.output.LayerNorm",
    "pooler": "{m}.pooler.dense",
}
_DISTILBERT = {
    "embeddings/word": "{m}.embeddings.word_embeddings",
    "embeddings/position": "{m}.embeddings.position_embeddings",
    "embeddings/norm": "{m}.embeddings.LayerNorm",
    "encoder/layer_{i}/attention/query": "{m}.transformer.layer.{i}.attention.q_lin",
    "encoder/layer_{i}/attention/key": "{m}.transformer.layer.{i}.attention.k_lin",
    "encoder/layer_{i}/attention/value": "{m}.transformer.layer.{i}.attention.v_lin",
    "encoder/layer_{i}/attention/output": "{m}.transformer.layer.{i}.attention.out_lin",
    "encoder/layer_{i}/attention_norm": "{m}.transformer.layer.{i}.sa_layer_norm",
    "encoder/layer_{i}/up": "{m}.transformer.layer.{i}.ffn.lin1",
    "encoder/layer_{i}/down": "{m}.transformer.layer.{i}.ffn.lin2",
    "encoder/layer_{i}/output_norm": "{m}.transformer.layer.{i}.output_layer_norm",
}
_GPT2 = {
    "word": "{m}.wte",
    "position": "{m}.wpe",
    "decoder/layer_{i}/attention_norm": "{m}.h.{i}.ln_1",
    "decoder/layer_{i}/attention/qkv": "{m}.h.{i}.attn.c_attn",
    "decoder/layer_{i}/attention/output": "{m}.h.{i}.attn.c_proj",
    "decoder/layer_{i}/output_norm": "{m}.h.{i}.ln_2",
    "decoder/layer_{i}/up": "{m}.h.{i}.mlp.c_fc",
    "decoder/layer_{i}/down": "{m}.h.{i}.mlp.c_proj",
    "norm": "{m}.ln_f",
}
_LLAMA = {
    "word": "{m}.embed_tokens",
    "decoder/layer_{i}/attention_norm": "{m}.layers.{i}.input_layernorm",
    "decoder/layer_{i}/attention/query": "{m}.layers.{i}.self_attn.q_proj",
    "decoder/layer_{i}/attention/key": "{m}.layers.{i}.self_attn.k_proj",
    "decoder/layer_{i}/attention/value": "{m}.layers.{i}.self_attn.v_proj",
    "decoder/layer_{i}/attention/output": "{m}.layers.{i}.self_attn.o_proj",
    "decoder/layer_{i}/attention/query_norm": "{m}.layers.{i}.self_attn.q_norm",
    "decoder/layer_{i}/attention/key_norm": "{m}.layers.{i}.self_attn.k_norm",
    "decoder/layer_{i}/output_norm": "{m}.layers.{i}.post_attention_layernorm",
    "decoder/layer_{i}/gate": "{m}.layers.{i}.mlp.gate_proj",
    "decoder/layer_{i}/up": "{m}.layers.{i}.mlp.up_proj",
    "decoder/layer_{i}/down": "{m}.layers.{i}.mlp.down_proj",
    "norm": "{m}.norm",
}


def _attention(side: str, ours: str, theirs: str) -> dict[str, str]:
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    at, there = f"{side}/layer_{{i}}/{ours}", f"{{m}}.{side}.layers.{{i}}.{theirs}"
    named = {f"{at}/{name}": f"{there}.{part}" for name, part in parts.items()}
    return named | {f"{at}_norm": f"{there}_layer_norm"}


def _side(side: str) -> dict[str, str]:
    layer = f"{{m}}.{side}.layers.{{i}}"
    return {
        f"{side}/position": f"{{m}}.{side}.embed_positions",
        f"{side}/norm": f"{{m}}.{side}.layernorm_embedding",
        **_attention(side, "attention", "self_attn"),
        f"{side}/layer_{{i}}/up": f"{layer}.fc1",
        f"{side}/layer_{{i}}/down": f"{layer}.fc2",
        f"{side}/layer_{{i}}/output_norm": f"{layer}.final_layer_norm",
    }


_BART = {
    "word": "{m}.shared",
    **_side("encoder"),
    **_side("decoder"),
    **_attention("decoder", "cross_attention", "encoder_attn"),
}
BODIES = {
    "bert": ("bert", _BERT),
    "roberta": ("roberta", {k: v for k, v in _BERT.items() if k != "pooler"}),
    "distilbert": ("distilbert", _DISTILBERT),
    "gpt2": ("transformer", _GPT2),
    "bart": ("model", _BART),
    **dict.fromkeys(ROTARY, ("model", _LLAMA)),
}
# The prefix in files of models that answer questions, where it is another one.
QA_ROOTS = dict.fromkeys(("llama", "qwen2", "qwen3"), "transformer")
_SCORE = {"head/classifier": "score"}
ANSWER = {"head/classifier": "qa_outputs"}
HEADS: dict[tuple[str, str], dict[str, str]] = {
    ("bert", "classify"): {"head/classifier": "classifier"},
    ("roberta", "classify"): {
        "head/dense": "classifier.dense",
        "head/classifier": "classifier.out_proj",
    },
    ("distilbert", "classify"): {
        "head/dense": "pre_classifier",
        "head/classifier": "classifier",
    },
    ("gpt2", "classify"): _SCORE,
    **{
        (kind, head): {"head/classifier": "score"}
        for kind in ROTARY
        for head in ("classify", "tag")
    },
    ("bert", "mlm"): {
        "head": "cls.predictions",
        "head/dense": "cls.predictions.transform.dense",
        "head/norm": "cls.predictions.transform.LayerNorm",
    },
    ("roberta", "mlm"): {
        "head": "lm_head",
        "head/dense": "lm_head.dense",
        "head/norm": "lm_head.layer_norm",
    },
    ("distilbert", "mlm"): {
        "head": "vocab_projector",
        "head/dense": "vocab_transform",
        "head/norm": "vocab_layer_norm",
    },
}
# The output matrix of a language model; in a tied model it is a copy of the word embedding.
OUTPUTS = {
    "bert": "cls.predictions.decoder",
    "roberta": "lm_head.decoder",
    "distilbert": "vocab_projector",
    **dict.fromkeys(("bart", *DECODERS), "lm_head"),
}
LANGUAGE = ("lm", "mlm", "seq2seq")  # heads that score the vocabulary
PARTS = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
CLASSES = {
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "mlm": "ForMaskedLM",
    "lm": "LMHeadModel",
    "seq2seq": "ForConditionalGeneration",
    "nlu": "Model",
}
OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
# Constants in old files, and BERT's pooler, which not every head needs.
UNREAD = re.compile(
    r"(^|\.)(position_ids|token_type_ids|version)$|^h\.\d+\.attn\.(bias|masked_bias)$"
    r"|^layers\.\d+\.self_attn\.rotary_emb\.inv_freq$|^pooler\.dense\.(weight|bias)$"
)
FAMILIES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "distilbert": "DistilBert",
    "gpt2": "GPT2",
    "bart": "Bart",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
}
