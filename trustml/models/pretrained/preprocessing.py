"""How a sentence encoder reads texts: its tokenizer, their largest length and what goes before."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from trustml.models.json_files import read_json
from trustml.models.pretrained.loading import Body
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig

_SETTINGS = "sentence_*_config.json"  # sentence_bert_config.json, sentence_roberta_config.json ...
_PROMPTS = "config_sentence_transformers.json"


class Preprocessing(NamedTuple):
    """How texts are read.

    Attributes:
      tokenizer: In lower case where the folder says so.
      max_length: Tokens of a text beyond which it is cut, special ones counted.
      prompt: Text that goes before every text.
    """

    tokenizer: TextTokenizer
    max_length: int
    prompt: str


def read_preprocessing(folder: Path, encoder: Path, body: Body) -> Preprocessing:
    """How the encoder of a folder reads texts, as sentence-transformers does.

    Args:
      folder: The folder.
      encoder: The folder of its encoder, often the same.
      body: What `encoder` holds.

    Raises:
      ValueError: A file is broken, or the length is more than the encoder has positions.
    """
    settings = _settings(encoder)
    tokenizer = _lowered(body.tokenizer) if settings.get("do_lower_case") else body.tokenizer
    length = _max_length(encoder, settings, tokenizer, body.config)
    return Preprocessing(tokenizer, length, _prompt(folder))


def positions(config: ModelConfig) -> int:
    """The largest number of tokens that an encoder reads."""
    # RoBERTa numbers positions from its padding id plus one.
    offset = (config.pad_id or 0) + 1 if config.model_type == "roberta" else 0
    return config.max_positions - offset


def _settings(folder: Path) -> dict[str, Any]:
    """Length and case of the texts."""
    for path in sorted(folder.glob(_SETTINGS)):
        return read_json(path)
    return {}


def _max_length(folder: Path, settings, tokenizer: TextTokenizer, config: ModelConfig) -> int:
    most = positions(config)
    given = settings.get("max_seq_length")
    if given is None:
        return int(min(most, tokenizer.model_max_length or most))
    if not (isinstance(given, int) and 0 < given <= most):
        raise ValueError(
            f"{folder}: `max_seq_length` must be an integer up to {most}, the positions of the "
            f"encoder, got {given!r}."
        )
    return given


def _prompt(folder: Path) -> str:
    path = folder / _PROMPTS
    fields = read_json(path) if path.exists() else {}
    name = fields.get("default_prompt_name")
    return "" if name is None else str((fields.get("prompts") or {}).get(name, ""))


def _lowered(tokenizer: TextTokenizer) -> TextTokenizer:
    """The tokenizer with lower case before all else."""
    from tokenizers import Tokenizer, normalizers

    model = Tokenizer.from_str(tokenizer.model.to_str())
    model.encode_special_tokens = tokenizer.model.encode_special_tokens
    before = [] if model.normalizer is None else [model.normalizer]
    model.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return dataclasses.replace(tokenizer, model=model)
