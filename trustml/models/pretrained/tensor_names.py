"""Names of our networks' tensors in Hugging Face's transformers."""

import re
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trustml.models.transformers.config import ModelConfig

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
_BODIES = {
    "bert": ("bert", _BERT),
    "roberta": ("roberta", {k: v for k, v in _BERT.items() if k != "pooler"}),
    "distilbert": ("distilbert", _DISTILBERT),
    "gpt2": ("transformer", _GPT2),
    "bart": ("model", _BART),
}
_ANSWER = {"head/classifier": "qa_outputs"}
_HEADS: dict[tuple[str, str], dict[str, str]] = {
    ("bert", "classify"): {"head/classifier": "classifier"},
    ("roberta", "classify"): {
        "head/dense": "classifier.dense",
        "head/classifier": "classifier.out_proj",
    },
    ("distilbert", "classify"): {
        "head/dense": "pre_classifier",
        "head/classifier": "classifier",
    },
    ("gpt2", "classify"): {"head/classifier": "score"},
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
_OUTPUTS = {
    "bert": "cls.predictions.decoder",
    "roberta": "lm_head.decoder",
    "distilbert": "vocab_projector",
    "gpt2": "lm_head",
    "bart": "lm_head",
}
LANGUAGE = ("lm", "mlm", "seq2seq")  # heads that score the vocabulary
_PARTS = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
_CLASSES = {
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "mlm": "ForMaskedLM",
    "lm": "LMHeadModel",
    "seq2seq": "ForConditionalGeneration",
    "nlu": "Model",
}
_OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
# Constants in old files, and BERT's pooler, which not every head needs.
_UNREAD = re.compile(
    r"(^|\.)(position_ids|token_type_ids|version)$|^h\.\d+\.attn\.(bias|masked_bias)$"
    r"|^pooler\.dense\.(weight|bias)$"
)
_FAMILIES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "distilbert": "DistilBert",
    "gpt2": "GPT2",
    "bart": "Bart",
}


class StoredLeaf(NamedTuple):
    """A leaf in a file of transformers."""

    name: str
    transposed: bool = False  # a dense layer's weight is stored as [out, in]
    row: bool = False  # a vector is stored as [1, size]


def class_name(config: ModelConfig, head: str) -> str:
    """The class of transformers for such a model."""
    return _FAMILIES[config.model_type] + _CLASSES[head]


def prefix(config: ModelConfig) -> str:
    """Prefix of the body's tensors in files of models with a head."""
    return _BODIES[config.model_type][0] + "."


def stored_leaves(config: ModelConfig, head: str, leaves) -> dict[str, StoredLeaf]:
    """The stored form of each leaf; leaves that transformers lacks are left out.

    Args:
      config: Configuration of the model.
      head: Name of the head.
      leaves: Names of unstacked leaves, such as `encoder/layer_0/up/kernel`.
    """
    kind = config.model_type
    root, body = _BODIES[kind]
    table = body | _HEADS.get((kind, head), {})
    if head == "tag":
        table = table | {"head/classifier": "classifier"}
    if head == "qa":
        table = table | _ANSWER
    if head in LANGUAGE:
        table = table | {"head/decoder": _OUTPUTS[kind]}
    stored = {}
    for leaf in leaves:
        module, _, part = leaf.rpartition("/")
        if (kind, leaf) == ("bart", "head/bias"):
            stored[leaf] = StoredLeaf("final_logits_bias", row=True)
            continue
        general, number = _without_number(module)
        if general not in table or part not in _PARTS:
            continue
        name = table[general].format(m=root, i=number)
        # GPT-2 alone stores its body's weights as [in, out] (Conv1D in transformers).
        linear = part == "kernel" and not (kind == "gpt2" and not leaf.startswith("head/"))
        stored[leaf] = StoredLeaf(f"{name}.{_PARTS[part]}", linear)
    return stored


def copies(config: ModelConfig, leaf: str, name: str) -> list[str]:
    """All names of a leaf in transformers: `name` and those of its copies.

    In a tied model they are one tensor; files may store one copy or several.
    """
    names, output = [name], _OUTPUTS[config.model_type]
    if leaf == "word/embedding" and config.model_type == "bart":
        root = prefix(config)
        names += [f"{root}{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    if leaf.endswith("word/embedding") and config.tied:
        names.append(f"{output}.weight")
    if leaf == "head/bias" and config.model_type in ("bert", "roberta"):
        names.append(f"{output}.bias")
    return names


def spellings(config: ModelConfig, name: str) -> list[str]:
    """Variants of a name in files: with or without prefix, in new or old spelling."""
    names = list(dict.fromkeys((name, name.removeprefix(prefix(config)))))
    for end, before in _OLD.items():
        names += [one.removesuffix(end) + before for one in names if one.endswith(end)]
    return names


def in_body(config: ModelConfig, name: str) -> bool:
    """Whether a stored tensor is a weight of the architecture's body."""
    root, table = _BODIES[config.model_type]
    tops = {theirs.split(".")[1] for theirs in table.values()}
    inner = name.removeprefix(root + ".")
    if _UNREAD.search(inner):
        return False
    return inner != name or inner.split(".")[0] in tops


def _without_number(module: str) -> tuple[str, str]:
    """The path and number of a layer, such as ("encoder/layer_{i}/up", "3")."""
    parts = module.split("/")
    number = ""
    for index, part in enumerate(parts):
        if part.startswith("layer_") and part[6:].isdigit():
            number = part[6:]
            parts[index] = "layer_{i}"
    return "/".join(parts), number


def unstacked(params: dict[str, Any]) -> dict[str, Any]:
    """Leaves by name, with stacked layers one by one: `layers/up` becomes `layer_0/up`, ...

    >>> sorted(unstacked({"encoder": {"layers": {"up": np.zeros((2, 3))}}}))
    ['encoder/layer_0/up', 'encoder/layer_1/up']
    """
    leaves = {}
    for name, leaf in flatten_dict(params, sep="/").items():
        if "/layers/" not in f"/{name}":
            leaves[name] = leaf
            continue
        for index in range(leaf.shape[0]):
            leaves[f"/{name}".replace("/layers/", f"/layer_{index}/")[1:]] = leaf[index]
    return leaves


def restacked(named: dict[str, Any], like: Any) -> dict[str, Any]:
    """The inverse of `unstacked`: a tree with the names of `like`.

    >>> tree = {"encoder": {"layers": {"up": np.zeros((2, 3))}}}
    >>> restacked(unstacked(tree), tree)["encoder"]["layers"]["up"].shape
    (2, 3)
    """
    leaves = {}
    for name, leaf in flatten_dict(like, sep="/").items():
        if "/layers/" not in f"/{name}":
            leaves[name] = named[name]
            continue
        layers = range(leaf.shape[0])
        parts = [named[f"/{name}".replace("/layers/", f"/layer_{i}/")[1:]] for i in layers]
        leaves[name] = np.stack([np.asarray(part) for part in parts])
    return jax.tree.map(jax.numpy.asarray, unflatten_dict(leaves, sep="/"))
