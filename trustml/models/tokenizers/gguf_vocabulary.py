"""Tokenizers from the metadata of a GGUF file."""

from pathlib import Path
from typing import Any

from trustml.models.tokenizers.text_tokenizer import TextTokenizer

_CONTROL, _USER = 3, 4  # types of tokens
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "mask": "mask"}
# How texts are split before the merges; None is GPT-2's own way.
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    "gpt-2": None,
    "smollm": None,
    "llama-bpe": rf"{_LETTERS}\p{{N}}{{1,3}}{_REST}",
    "qwen2": rf"{_LETTERS}\p{{N}}{_REST}",
}


def read_vocabulary(metadata: dict[str, Any], path: Path) -> TextTokenizer | None:
    """The tokenizer of a GGUF file; None if it has none.

    Args:
      metadata: The fields of the file.
      path: The file, for messages.

    Raises:
      ValueError: A kind of tokenizer, or of splits, that is not supported.
    """
    kind, split = (str(metadata.get(f"tokenizer.ggml.{name}")) for name in ("model", "pre"))
    if kind in ("None", "none"):
        return None
    _check("model", kind, ("gpt2",), path)
    _check("pre", split, tuple(_SPLITS), path)
    tokens = metadata["tokenizer.ggml.tokens"]
    model = _model(tokens, metadata["tokenizer.ggml.merges"], split)
    _add_special(model, tokens, metadata.get("tokenizer.ggml.token_type") or ())
    specials = {
        role: tokens[number]
        for role, name in _ROLES.items()
        if (number := metadata.get(f"tokenizer.ggml.{name}_token_id")) is not None
    }
    _frame(model, metadata, specials, split)
    longest = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    statement = f"vocabulary from {path.name}"
    return TextTokenizer(model, specials, statement, model_max_length=longest)


def _check(name: str, value: Any, able: tuple[str, ...], path: Path) -> None:
    if value not in able:
        raise ValueError(
            f"{path}: `tokenizer.ggml.{name}` must be one of {', '.join(able)}, got {value!r}; "
            "take the model as a folder with safetensors and tokenizer.json."
        )


def _model(tokens, merges, split: str):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(pair.split(" ", 1)) for pair in merges]
    # Llama 3 takes a word that is one token without the merges.
    model = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=split == "llama-bpe"))
    pattern = _SPLITS[split]
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)]
    if split == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True), *steps]
    if pattern is not None:
        steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), *steps]
    model.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    if split == "qwen2":
        model.normalizer = normalizers.NFC()
    model.decoder = decoders.ByteLevel()
    return model


def _add_special(model, tokens, types) -> None:
    from tokenizers import AddedToken

    model.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=False)
            if kind in (_CONTROL, _USER)
        ]
    )


def _frame(model, metadata: dict[str, Any], specials: dict[str, str], split: str) -> None:
    """Sets the special tokens around texts."""
    from tokenizers import processors

    asked = {
        "bos": metadata.get("tokenizer.ggml.add_bos_token", split == "llama-bpe"),
        "eos": metadata.get("tokenizer.ggml.add_eos_token", False),
    }
    start, end = (
        [specials[role]] if wanted and role in specials else [] for role, wanted in asked.items()
    )
    if start or end:
        second = [f"{one}:1" for one in (*start, "$B", *end)]
        model.post_processor = processors.TemplateProcessing(
            single=[*start, "$A", *end],
            pair=[*start, "$A", *end, *second],
            special_tokens=[(one, model.token_to_id(one)) for one in (*start, *end)],
        )
