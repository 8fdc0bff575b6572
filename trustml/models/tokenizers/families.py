"""The steps that tokenizer classes of transformers build around a vocabulary."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from trustml.strict_json import dumps


class Family(NamedTuple):
    """One class of tokenizers.

    Attributes:
      kind: Type of the vocabulary, as tokenizer.json names it.
      files: Files with the vocabulary if there is no tokenizer.json.
      tokens: Default special tokens.
      start: Maps `(folder, tokenizer.json or None, options)` to a tokenizer without added tokens.
      frame: Maps `(tokenizer, options, special tokens)` to the post-processor; None keeps that of
        tokenizer.json.
    """

    kind: str
    files: tuple[str, ...]
    tokens: dict[str, str]
    start: Callable[[Path, dict[str, Any] | None, dict[str, Any]], Any]
    frame: Callable[[Any, dict[str, Any], dict[str, Any]], Any] | None


def _wordpiece(folder: Path, whole: dict[str, Any] | None, options: dict[str, Any]):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    read = models.WordPiece.read_file
    vocabulary = read(str(folder / "vocab.txt")) if whole is None else whole["model"]["vocab"]
    unknown = str(options.get("unk_token") or _BERT["unk_token"])
    if unknown not in vocabulary:
        raise ValueError(f"`unk_token` must be in the vocabulary, got {unknown!r}, which is not.")
    model = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    model.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(options.get("tokenize_chinese_chars", True)),
        strip_accents=options.get("strip_accents"),
        lowercase=bool(options.get("do_lower_case", True)),
    )
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece(prefix="##")
    return model


def _bytes(folder: Path, whole: dict[str, Any] | None, options: dict[str, Any]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    if whole is None:
        files = str(folder / "vocab.json"), str(folder / "merges.txt")
        vocabulary, merges = models.BPE.read_file(*files)
    else:
        vocabulary = whole["model"]["vocab"]
        merges = [
            tuple(pair.split(" ") if isinstance(pair, str) else pair)
            for pair in whole["model"]["merges"]
        ]
    model = Tokenizer(models.BPE(vocabulary, merges))
    spaced = bool(options.get("add_prefix_space", False))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    model.decoder = decoders.ByteLevel()
    if whole is not None and whole.get("post_processor"):
        model.post_processor = _processor(whole)
    return model


def _processor(whole: dict[str, Any]):
    """The post-processor of tokenizer.json alone."""
    from tokenizers import Tokenizer

    bare = whole | {"model": whole["model"] | {"vocab": {}, "merges": []}, "added_tokens": []}
    return Tokenizer.from_str(dumps(bare)).post_processor


def _unigram(folder: Path, whole: dict[str, Any] | None, options: dict[str, Any]):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    del folder
    scores = [(token, score) for token, score in (whole or {})["model"]["vocab"]]
    # transformers hard-codes 3 too: the id of the unknown token in all XLM-RoBERTa vocabularies.
    model = Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False))
    if (table := _character_table((whole or {}).get("normalizer"))) is not None:
        model.normalizer = normalizers.Precompiled(table)
    spaced = "always" if options.get("add_prefix_space", True) else "never"
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=spaced)]
    )
    model.decoder = decoders.Metaspace(prepend_scheme=spaced)
    return model


def _character_table(normalizer: dict[str, Any] | None) -> bytes | None:
    """SentencePiece's table of characters, the only normalizer that the class keeps."""
    parts = (normalizer or {}).get("normalizers", [normalizer or {}])
    tables = [part for part in parts if part.get("type") == "Precompiled"]
    return base64.b64decode(tables[0]["precompiled_charsmap"]) if tables else None


def _xlm_frame(model, options: dict[str, Any], tokens: dict[str, Any]):
    from tokenizers import processors

    start, end = (str(tokens[f"{name}_token"]) for name in ("bos", "eos"))
    return processors.TemplateProcessing(
        single=[start, "$A", end],
        pair=[start, "$A", end, end, "$B", end],
        special_tokens=[(token, model.token_to_id(token)) for token in (start, end)],
    )


def _bert_frame(model, options: dict[str, Any], tokens: dict[str, Any]):
    from tokenizers import processors

    start, end = str(tokens["cls_token"]), str(tokens["sep_token"])
    return processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[(token, model.token_to_id(token)) for token in (start, end)],
    )


def _roberta_frame(model, options: dict[str, Any], tokens: dict[str, Any]):
    from tokenizers import processors

    start, end = (str(tokens[f"{name}_token"]) for name in ("cls", "sep"))
    return processors.RobertaProcessing(
        (end, model.token_to_id(end)),
        (start, model.token_to_id(start)),
        bool(options.get("trim_offsets", True)),
        bool(options.get("add_prefix_space", False)),
    )


_BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_GPT2 = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
_MERGED = ("vocab.json", "merges.txt")
FAMILIES = {
    "bert": Family("WordPiece", ("vocab.txt",), _BERT, _wordpiece, _bert_frame),
    "roberta": Family("BPE", _MERGED, _ROBERTA, _bytes, _roberta_frame),
    "gpt2": Family("BPE", _MERGED, _GPT2, _bytes, None),
    "xlm-roberta": Family("Unigram", ("tokenizer.json",), _ROBERTA, _unigram, _xlm_frame),
}
