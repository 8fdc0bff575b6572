"""Sub-word tokenizers of pretrained models, read from their folder or trained on public text."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustml.models.tokenizers.files import read_tokenizer
from trustml.strict_json import dumps

_TRAINED = {
    "bpe": {
        "pad": "<pad>",
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
        "cls": "<s>",
        "sep": "</s>",
    },
    "wordpiece": {
        "pad": "[PAD]",
        "unk": "[UNK]",
        "cls": "[CLS]",
        "sep": "[SEP]",
        "mask": "[MASK]",
    },
}
_STATEMENT = "trustml_statement"


class Encoded(NamedTuple):
    """Pieces of one text or pair; entries of special tokens are None in `words`, `sequence`."""

    ids: list[int]
    types: list[int]  # 0, and 1 for a pair's second text where the model tells them apart
    words: list[int | None]  # which word of its text a piece belongs to
    offsets: list[tuple[int, int]]  # characters of its text, or of its word
    sequence: list[int | None]  # which text: 0 or 1


@dataclasses.dataclass(frozen=True, eq=False)
class TextTokenizer:
    """Text to ids and back. An id is None where the vocabulary has no such special token."""

    model: Any  # tokenizers.Tokenizer
    specials: dict[str, str]  # "pad" to "[PAD]", ...
    statement: str  # where the vocabulary is from
    truncation_side: str = "right"  # where a text that is too long is cut: "left" or "right"
    model_max_length: int | None = None  # tokens that the model was made for, as its files say

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding needs: the largest id and one."""
        return max(self.model.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    pad_id = property(lambda self: self._id("pad"), doc="Id of padding.")
    bos_id = property(lambda self: self._id("bos"), doc="Id of the start of a text.")
    eos_id = property(lambda self: self._id("eos"), doc="Id of the end of a text.")
    unk_id = property(lambda self: self._id("unk"), doc="Id of what the vocabulary lacks.")
    mask_id = property(lambda self: self._id("mask"), doc="Id of a piece to be guessed.")
    cls_id = property(lambda self: self._id("cls"), doc="Id of the token that stands for all.")
    sep_id = property(lambda self: self._id("sep"), doc="Id between and behind texts.")

    def _id(self, name: str) -> int | None:
        return self.model.token_to_id(self.specials[name]) if name in self.specials else None

    def encode(
        self,
        text: str,
        pair: str | None = None,
        max_length: int | None = None,
        special: bool = True,
    ) -> Encoded:
        """Encodes a text, or two.

        Args:
          text: The text.
          pair: A second text.
          max_length: Pieces at most, special tokens included; the longer text is cut, on
            `truncation_side`.
          special: Whether special tokens are added.

        Raises:
          ValueError: A `max_length` with no room for special tokens.
        """
        return self._run(self.model, max_length, text, pair, special)

    def encode_words(self, tokens: Sequence[str], max_length: int | None = None) -> Encoded:
        """Encodes a text that is split into words; a word may give no piece, as "" does.

        Raises:
          ValueError: A `max_length` with no room for special tokens.
        """
        return self._run(self._words, max_length, list(tokens), None, True)

    def _run(self, model, max_length, text, pair, special) -> Encoded:
        frame = model.num_special_tokens_to_add(pair is not None) if special else 0
        if max_length is not None:
            if max_length <= frame:
                raise ValueError(f"`max_length` must be more than {frame}, got {max_length!r}.")
            model.enable_truncation(
                max_length, strategy="longest_first", direction=self.truncation_side
            )
        try:
            found = model.encode(
                text, pair, is_pretokenized=not isinstance(text, str), add_special_tokens=special
            )
        finally:
            model.no_truncation()
        columns = (found.ids, found.type_ids, found.word_ids, found.offsets, found.sequence_ids)
        # Special tokens belong to no word and no text, whatever a template says.
        inner = [flag == 0 for flag in found.special_tokens_mask]
        words, sequence = (
            [entry if keep else None for entry, keep in zip(column, inner, strict=True)]
            for column in (columns[2], columns[4])
        )
        return Encoded(found.ids, found.type_ids, words, found.offsets, sequence)

    @functools.cached_property
    def _words(self) -> Any:
        return _of_words(self.model)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of ids."""
        return self.model.decode([int(one) for one in ids], skip_special_tokens=skip_special)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "TextTokenizer":
        """Reads a folder's tokenizer; ids are those of Hugging Face's transformers.

        The vocabulary is tokenizer.json, or else vocab.txt (BERT), or vocab.json with merges.txt
        (GPT-2, RoBERTa); tokenizer_config.json, special_tokens_map.json and added_tokens.json say
        how it is used.

        Raises:
          ValueError: No vocabulary, a file that cannot be read, or a `tokenizer_class` that is
            not known.
        """
        folder = Path(folder)
        model, specials, settings = read_tokenizer(folder)
        model.no_padding()
        model.no_truncation()
        return cls(
            model,
            specials,
            settings.get(_STATEMENT) or f"vocabulary from {folder.name}",
            settings.get("truncation_side") or "right",
            settings.get("model_max_length"),
        )

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        kind: str = "bpe",
        *,
        source: str = "texts given to train it",
    ) -> "TextTokenizer":
        """Learns a vocabulary; it tells of its texts, so they should be public.

        Args:
          texts: What it is learnt from.
          vocab_size: Pieces at most, special tokens included.
          kind: "bpe" (byte-level, any text comes back whole) or "wordpiece" (BERT's,
            lower-cased).
          source: What `statement` says of the texts.

        Raises:
          ValueError: An unknown kind, or a vocabulary with no room for the alphabet.
        """
        if kind not in _TRAINED:
            raise ValueError(f"`kind` must be one of {', '.join(_TRAINED)}, got {kind!r}.")
        least = len(set(_TRAINED[kind].values())) + (256 if kind == "bpe" else 1)
        if vocab_size < least:
            raise ValueError(f"`vocab_size` must be at least {least} for {kind}, got {vocab_size}.")
        model, trainer = _untrained(kind, vocab_size)
        model.train_from_iterator(texts, trainer)
        model.post_processor = _frame(model, kind)
        return cls(model, dict(_TRAINED[kind]), f"vocabulary from {source}")

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json, which transformers reads too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(str(folder / "tokenizer.json"))
        settings: dict[str, Any] = {f"{name}_token": t for name, t in self.specials.items()}
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", _STATEMENT: self.statement}
        settings |= {"truncation_side": self.truncation_side}
        settings |= {"split_special_tokens": self.model.encode_special_tokens}
        if self.model_max_length is not None:
            settings["model_max_length"] = self.model_max_length
        (folder / "tokenizer_config.json").write_text(dumps(settings, indent=2) + "\n")


def _of_words(model):
    """A byte-level vocabulary writes a word's space in its first piece: each word needs one."""
    import tokenizers

    described = json.loads(model.to_str())
    before = described.get("pre_tokenizer") or {}
    changed = False
    for part in (before, *before.get("pretokenizers", ())):
        if part.get("type") == "ByteLevel" and not part["add_prefix_space"]:
            part["add_prefix_space"] = changed = True
    if not changed:
        return model
    found = tokenizers.Tokenizer.from_str(dumps(described))
    found.encode_special_tokens = model.encode_special_tokens
    return found


def _untrained(kind: str, vocab_size: int):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    specials = list(dict.fromkeys(_TRAINED[kind].values()))
    shared: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": specials,
        "show_progress": False,
    }
    if kind == "bpe":
        model = Tokenizer(models.BPE(unk_token="<unk>"))
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        return model, trainers.BpeTrainer(initial_alphabet=alphabet, **shared)
    model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer = normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    return model, trainers.WordPieceTrainer(**shared)


def _frame(model, kind: str):
    from tokenizers import processors

    start, end = _TRAINED[kind]["cls"], _TRAINED[kind]["sep"]
    second = 0 if kind == "bpe" else 1  # RoBERTa does not tell a pair's texts apart
    return processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:{second} {end}:{second}",
        special_tokens=[(token, model.token_to_id(token)) for token in (start, end)],
    )
