"""Sub-word tokenizers of pretrained models, read from their folder or trained on public text."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

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
_CHUNK = 1 << 14  # texts that are held with all that the tokenizer says of them
_STATEMENT = "trustml_statement"


class Encoded(NamedTuple):
    """Tokens of one text or pair; `words` and `sequence` are None for special tokens."""

    ids: list[int]
    types: list[int]  # 0; 1 for a pair's second text if the model has segments
    words: list[int | None]  # index of the token's word in its text
    offsets: list[tuple[int, int]]  # characters (start, end) in its text, or in its word
    sequence: list[int | None]  # index of its text: 0 or 1


@dataclasses.dataclass(frozen=True, eq=False)
class TextTokenizer:
    """Converts text to ids and back. An id is None if the vocabulary lacks the special token.

    >>> tokenizer = TextTokenizer.train(["a rose is a rose"], vocab_size=270)
    >>> tokenizer.decode(tokenizer.encode("rose is").ids)
    'rose is'
    """

    model: Any  # tokenizers.Tokenizer
    specials: dict[str, str]  # "pad" to "[PAD]", ...
    statement: str  # the source of the vocabulary
    truncation_side: str = "right"  # the side where long texts are cut: "left" or "right"
    model_max_length: int | None = None  # longest input of the model, from its files

    @property
    def vocab_size(self) -> int:
        """Number of rows of an embedding: the largest id plus one."""
        return max(self.model.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    pad_id = property(lambda self: self._id("pad"), doc="Id of padding.")
    bos_id = property(lambda self: self._id("bos"), doc="Id of the start of a text.")
    eos_id = property(lambda self: self._id("eos"), doc="Id of the end of a text.")
    unk_id = property(lambda self: self._id("unk"), doc="Id of unknown text.")
    mask_id = property(lambda self: self._id("mask"), doc="Id of a masked token.")
    cls_id = property(lambda self: self._id("cls"), doc="Id of the token that summarizes a text.")
    sep_id = property(lambda self: self._id("sep"), doc="Id between and after texts.")

    def _id(self, name: str) -> int | None:
        return self.model.token_to_id(self.specials[name]) if name in self.specials else None

    def encode(
        self,
        text: str,
        pair: str | None = None,
        max_length: int | None = None,
        special: bool = True,
    ) -> Encoded:
        """The tokens of a text, or of two.

        Args:
          text: The text.
          pair: A second text.
          max_length: Largest number of tokens, with special ones. The longer text is cut on
            `truncation_side`.
          special: Whether to add special tokens.

        Raises:
          ValueError: `max_length` leaves no room for text.
        """
        return self._run(self.model, max_length, text, pair, special)

    def encode_words(self, tokens: Sequence[str], max_length: int | None = None) -> Encoded:
        """The tokens of a text that is split into words; a word such as "" may have none.

        Raises:
          ValueError: `max_length` leaves no room for text.
        """
        return self._run(self._words, max_length, list(tokens), None, True)

    def encode_batch(
        self, rows: Sequence[str] | Sequence[Sequence[str]], max_length: int | None = None
    ) -> list[Encoded]:
        """The tokens of many texts, or of many texts in words, on all cores.

        Raises:
          ValueError: `max_length` leaves no room for text.
        """
        split = bool(len(rows)) and not isinstance(rows[0], str)
        model = self._words if split else self.model
        given = [list(row) for row in rows] if split else list(rows)
        with self._cut(model, max_length, False, True):
            batch = model.encode_batch(given, is_pretokenized=split)
        return [_encoded(one) for one in batch]

    def encode_ids(
        self, texts: Sequence[str], max_length: int | None = None, prompt: str = ""
    ) -> list[Int[np.ndarray, " token"]]:
        """The ids alone of many texts, each after `prompt`: they take a tenth of the memory.

        Raises:
          ValueError: `max_length` leaves no room for text.
        """
        ids: list[np.ndarray] = []
        for start in range(0, len(texts), _CHUNK):
            given = [prompt + text for text in texts[start : start + _CHUNK]]
            ids += [np.array(one.ids, np.int32) for one in self.encode_batch(given, max_length)]
        return ids

    def _run(self, model, max_length, text, pair, special) -> Encoded:
        with self._cut(model, max_length, pair is not None, special):
            encoded = model.encode(
                text, pair, is_pretokenized=not isinstance(text, str), add_special_tokens=special
            )
        return _encoded(encoded)

    @contextlib.contextmanager
    def _cut(self, model, max_length, pair, special) -> Iterator[None]:
        """Truncation of what is encoded within."""
        frame = model.num_special_tokens_to_add(pair) if special else 0
        if max_length is not None:
            if max_length <= frame:
                raise ValueError(f"`max_length` must be more than {frame}, got {max_length!r}.")
            model.enable_truncation(
                max_length, strategy="longest_first", direction=self.truncation_side
            )
        try:
            yield
        finally:
            model.no_truncation()

    @functools.cached_property
    def _words(self) -> Any:
        return _of_words(self.model)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of ids."""
        return self.model.decode([int(one) for one in ids], skip_special_tokens=skip_special)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "TextTokenizer":
        """The tokenizer of a folder, with the same ids as in Hugging Face's transformers.

        The vocabulary is tokenizer.json, else vocab.txt (BERT), else vocab.json with merges.txt
        (GPT-2, RoBERTa). Options are in tokenizer_config.json, special_tokens_map.json and
        added_tokens.json.

        Raises:
          ValueError: No vocabulary, an unreadable file, or an unsupported `tokenizer_class`.
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
        """A tokenizer with a vocabulary learned from texts, which it reveals: use public texts.

        Args:
          texts: Public texts.
          vocab_size: Largest number of tokens, with special ones.
          kind: "bpe" (byte-level; decoding restores any text) or "wordpiece" (BERT's, lower-cased).
          source: Source of the texts, for `statement`.

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


def _encoded(encoded) -> Encoded:
    # Templates assign special tokens to a text; here they belong to none.
    inner = [flag == 0 for flag in encoded.special_tokens_mask]
    words, sequence = (
        [entry if keep else None for entry, keep in zip(column, inner, strict=True)]
        for column in (encoded.word_ids, encoded.sequence_ids)
    )
    return Encoded(encoded.ids, encoded.type_ids, words, encoded.offsets, sequence)


def _of_words(model):
    """The model for text in words. A byte-level token begins with its space: each word gets one."""
    import tokenizers

    described = json.loads(model.to_str())
    before = described.get("pre_tokenizer") or {}
    changed = False
    for part in (before, *before.get("pretokenizers", ())):
        if part.get("type") == "ByteLevel" and not part["add_prefix_space"]:
            part["add_prefix_space"] = changed = True
    if not changed:
        return model
    spaced = tokenizers.Tokenizer.from_str(dumps(described))
    spaced.encode_special_tokens = model.encode_special_tokens
    return spaced


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
    second = 0 if kind == "bpe" else 1  # RoBERTa has no segments
    return processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:{second} {end}:{second}",
        special_tokens=[(token, model.token_to_id(token)) for token in (start, end)],
    )
