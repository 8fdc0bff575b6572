"""Ids equal those of Hugging Face's transformers, whatever a folder says of its tokenizer."""

import base64
import contextlib
import functools
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from trustml.models.tokenizers.text_tokenizer import TextTokenizer

WAY = "needs transformers 5 and torch: pip install 'trustml-jax[parity]'"
transformers = pytest.importorskip("transformers", minversion="5", reason=WAY)

CORPUS = ["the cat sat on the mat", "naïve café, Straße 漢字 and ŁÓDŹ", "a dog's 12 mats!"] * 4
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
ROBERTA = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>"}
ROBERTA |= {"unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
GPT2 = dict.fromkeys(("unk", "bos", "eos"), "<|endoftext|>")
NEW = ("<NEW>", "[ent]", "Éa", "cat sat", "<x y>")  # tokens that a vocabulary may gain
PROPERTY = settings(max_examples=120, derandomize=True, deadline=None, database=None)


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def learnt(model, trainer, **steps):
    found = tokenizers.Tokenizer(model)
    for name, step in steps.items():
        setattr(found, name, step)
    found.train_from_iterator(CORPUS, trainer)
    return found


def wordpiece():
    trainer = trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=sorted(BERT.values()), show_progress=False
    )
    split = pre_tokenizers.BertPreTokenizer()
    return learnt(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizer=split)


def merged(specials):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=sorted(set(specials)),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    steps = {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False)}
    return learnt(models.BPE(), trainer, **steps, decoder=decoders.ByteLevel())


def unigram():
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        unk_token="<unk>",
        show_progress=False,
    )
    steps = {
        "normalizer": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        "pre_tokenizer": pre_tokenizers.Metaspace(),
        "decoder": decoders.Metaspace(),
    }
    found = learnt(models.Unigram(), trainer, **steps)
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, found.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return found


# Family: its vocabulary, its special tokens, classes of transformers, a model of config.json.
FAMILIES = {
    "wordpiece": (wordpiece, BERT, ("BertTokenizer", "DistilBertTokenizerFast"), "bert"),
    "roberta": (
        lambda: merged(ROBERTA.values()),
        ROBERTA,
        ("RobertaTokenizer", "BartTokenizerFast"),
        "bart",
    ),
    "gpt2": (lambda: merged(GPT2.values()), GPT2, ("GPT2Tokenizer", "GPT2TokenizerFast"), "gpt2"),
    "unigram": (unigram, ROBERTA, ("XLMRobertaTokenizer", "XLMRobertaTokenizerFast"), None),
}
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
FLAGS = ("lstrip", "rstrip", "normalized", "single_word")
OPTIONS = {
    "do_lower_case": st.booleans(),
    "strip_accents": st.sampled_from([None, True, False]),
    "tokenize_chinese_chars": st.booleans(),
    "add_prefix_space": st.booleans(),
    "trim_offsets": st.booleans(),
    "truncation_side": st.sampled_from(["left", "right"]),
    "padding_side": st.sampled_from(["left", "right"]),
    "model_max_length": st.sampled_from([8, 512]),
    "split_special_tokens": st.booleans(),
    "add_bos_token": st.booleans(),
    "add_eos_token": st.booleans(),
}
PIECES = (
    *("the", " cat", "Cat", "sat", " ", "  ", "\t", "\n", "mats", "dog's", "12", "!", ",", "##s"),
    *("café", "CAFÉ", "cafe\u0301", "naïve", "Straße", "漢字", "漢", "İ", "ﬁ", "ŁÓDŹ", "zebra"),
    *("\u00a0", "\u200d", "\x00", "\ufeff", "🙂", "\u2581", "Ġ", "<", "]", "the cat sat on"),
)


def texts(tokens):
    """Odd sentences with special and added tokens, also in other cases."""
    odd = [*PIECES, *tokens, *(token.lower() for token in tokens), *(f" {t} " for t in tokens)]
    return st.lists(st.sampled_from(odd), max_size=9).map("".join)


@functools.cache
def vocabulary(family):
    return FAMILIES[family][0]().to_str()


def saved_vocabulary(family, whole):
    """The files from before there was tokenizer.json."""
    held = whole["model"]
    if family == "wordpiece":
        words = sorted(held["vocab"], key=held["vocab"].get)
        return {"vocab.txt": "".join(f"{word}\n" for word in words)}
    return {
        "vocab.json": held["vocab"],
        "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, held["merges"])]),
    }


def new_tokens(draw, size):
    """Tokens behind a vocabulary, as tokenizer.json describes them."""
    return [
        {"content": token, "id": size + place, "special": draw(st.booleans())}
        | {flag: draw(st.booleans()) for flag in FLAGS}
        for place, token in enumerate(draw(st.lists(st.sampled_from(NEW), unique=True, max_size=3)))
    ]


def roles(draw, able, listed, more):
    """Special tokens as tokenizer_config.json and special_tokens_map.json name them."""
    found = {}
    for role in draw(st.lists(st.sampled_from(ROLES), unique=True, max_size=4)):
        token = draw(st.sampled_from(able))
        if draw(st.booleans()):
            token = {"content": token, **{f: draw(st.booleans()) for f in FLAGS[:3]}, **more}
        found[f"{role}_token"] = token
    for name in ("additional_special_tokens", "extra_special_tokens"):
        if draw(st.integers(0, 3)) == 0:
            found[name] = draw(st.lists(st.sampled_from(listed), unique=True))
    return found


def whole_file(draw, whole, added, own_steps):
    """tokenizer.json, with its added tokens and other fields that count or do not."""
    whole["added_tokens"] += added
    if own_steps and draw(st.booleans()):
        whole["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": TABLE}
    if draw(st.booleans()):
        cut = {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
        whole["truncation"] = cut
    return {"tokenizer.json": whole}


@st.composite
def described(draw, family):
    """The files of a folder, as a dict, and tokens that may stand in its texts."""
    _, specials, classes, kind = FAMILIES[family]
    whole = json.loads(vocabulary(family))
    added = new_tokens(draw, len(whole["model"]["vocab"]))
    options = draw(st.fixed_dictionaries({}, optional=OPTIONS))
    where = draw(st.sampled_from(["added_tokens_decoder", "added_tokens.json", "none"]))
    generic = draw(st.integers(0, 3)) == 0
    if generic or kind is None or draw(st.booleans()):
        here = where != "added_tokens.json" and (generic or draw(st.booleans()))
        files = whole_file(draw, whole, added if here else [], kind is None and not generic)
    else:
        files = saved_vocabulary(family, whole)
    if where == "added_tokens_decoder":
        known = whole["added_tokens"] if "tokenizer.json" in files and not generic else []
        tokens = {one["id"]: one for one in [*known, *added]}
        options[where] = {
            str(place): {k: v for k, v in one.items() if k != "id"} for place, one in tokens.items()
        }
    if where == "added_tokens.json":
        files[where] = {one["content"]: one["id"] for one in added}
    if generic or kind is None or draw(st.booleans()):
        options["tokenizer_class"] = draw(st.sampled_from(GENERIC if generic else classes))
    else:
        files["config.json"] = {"model_type": kind}
    new = [one["content"] for one in added]
    # A template of transformers' cannot hold a token with a space in it.
    able = [
        *sorted(set(specials.values())),
        *(token for token in new if " " not in token),
        "<late>",
    ]
    listed = ["<e1>", "<e2>", *new]
    if draw(st.booleans()):
        options |= roles(draw, able, listed, {"__type": "AddedToken"})
    if draw(st.booleans()):
        files["special_tokens_map.json"] = roles(draw, able, listed, {})
    files["tokenizer_config.json"] = options
    return files, [*specials.values(), *new, "<late>", "<e1>", "<e2>"]


def character_table(before, after):
    """SentencePiece's table that turns one character into another: a trie, then what it gives."""
    nodes = np.zeros(1024, np.uint32)
    nodes[0] = 256 << 10  # where the children of the root are
    at = 256 ^ ord(before)
    nodes[at] = ord(before) | 1 << 8 | 512 << 10  # a character that ends, and where its value is
    nodes[at ^ 512] = 1 << 31  # the value: a place in the texts behind the trie
    return nodes.nbytes.to_bytes(4, "little") + nodes.tobytes() + after.encode() + bytes(1)


TABLE = base64.b64encode(character_table("m", "c")).decode()


@contextlib.contextmanager
def folder_of(files):
    with tempfile.TemporaryDirectory() as at:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            Path(at, name).write_text(text, encoding="utf-8")
        yield Path(at)


def theirs(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoTokenizer.from_pretrained(folder)


def check(mine, reference, text, pair, length):
    for given_pair in (None, pair or None):
        for most in (None, length):
            cut = {"truncation": True, "max_length": most} if most else {}
            expected = reference(text, given_pair, return_token_type_ids=True, **cut)
            found = mine.encode(text, given_pair, max_length=most)
            assert found.ids == expected["input_ids"]
            assert found.types == expected["token_type_ids"]
    plain = reference(text, add_special_tokens=False)["input_ids"]
    assert mine.encode(text, special=False).ids == plain


def check_folder(files, data, tokens):
    with folder_of(files) as folder:
        try:
            mine = TextTokenizer.from_folder(folder)
        except ValueError:
            with pytest.raises(Exception, match=r"."):
                theirs(folder)("☃")  # which no vocabulary has
            return
        reference = theirs(folder)
        with tempfile.TemporaryDirectory() as other:
            mine.save(other)
            again = TextTokenizer.from_folder(other)
    for role in ROLES:
        named = getattr(reference, f"{role}_token_id")
        if named is not None:
            assert getattr(mine, f"{role}_id") == named, role
            assert getattr(again, f"{role}_id") == named, role
    assert mine.vocab_size == again.vocab_size == len(reference)
    text, pair = data.draw(texts(tokens)), data.draw(texts(tokens))
    for one in (mine, again):
        check(one, reference, text, pair, data.draw(st.integers(6, 12)))
    if not isinstance(mine.model.pre_tokenizer, pre_tokenizers.ByteLevel):
        words = text.split()
        expected = reference(words, is_split_into_words=True)["input_ids"]
        assert mine.encode_words(words).ids == expected


@pytest.mark.parametrize("family", sorted(FAMILIES))
@PROPERTY
@given(data=st.data())
def test_ids_equal_those_of_transformers(family, data):
    files, tokens = data.draw(described(family))
    check_folder(files, data, tokens)


@pytest.mark.parametrize("behind", [(), ("<e1>",)])
def test_special_tokens_that_only_a_class_names_need_no_rows(behind):
    model = json.loads(wordpiece().to_str())["model"]["vocab"]
    words = [word for word in sorted(model, key=model.get) if word not in ("[MASK]", "[PAD]")]
    options = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": list(behind)}
    files = {"vocab.txt": "\n".join(words), "tokenizer_config.json": options}
    with folder_of(files) as folder:
        mine, reference = TextTokenizer.from_folder(folder), theirs(folder)
    # transformers gives them ids that a model of this vocabulary lacks.
    assert len(reference) == len(words) + 2 + len(behind)
    assert mine.vocab_size == (len(reference) if behind else len(words))
    assert mine.mask_id == (reference.mask_token_id if behind else None)
    text = "the [SEP] cat <e1> sat"
    assert mine.encode(text).ids == reference(text)["input_ids"]


def test_a_table_of_characters_is_kept():
    whole = json.loads(unigram().to_str())
    whole["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": TABLE}
    options = {"tokenizer_class": "XLMRobertaTokenizer"}
    with folder_of({"tokenizer.json": whole, "tokenizer_config.json": options}) as folder:
        mine, reference = TextTokenizer.from_folder(folder), theirs(folder)
    assert mine.encode("the mat").ids == mine.encode("the cat").ids
    assert mine.encode("the mat").ids == reference("the mat")["input_ids"]
