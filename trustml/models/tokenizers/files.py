"""Reads a folder's tokenizer files as Hugging Face's transformers 5 does.

config.json or tokenizer_config.json may name a class. It builds its own steps around the
vocabulary, with the options of tokenizer_config.json. Without a class, tokenizer.json is complete.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from trustml.models.json_files import read_json
from trustml.models.tokenizers.families import FAMILIES, Family
from trustml.strict_json import dumps

NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order that adds them
_WHOLE, _SETTINGS, _MAP = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
_ADDED = "added_tokens.json"
# Classes of transformers by family; other classes build steps that are not supported.
_CLASSES = {
    **dict.fromkeys(("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert"), "bert"),
    **dict.fromkeys(("ConvBert", "LayoutLM"), "bert"),
    **dict.fromkeys(("Roberta", "Bart", "Longformer", "LED"), "roberta"),
    "GPT2": "gpt2",
    "XLMRoberta": "xlm-roberta",
}
_OF_MODELS = {
    **{"bert": "bert", "distilbert": "bert", "roberta": "roberta"},
    **{"bart": "roberta", "gpt2": "gpt2"},
}
# The last three build the steps that their tokenizer.json has too.
_GENERIC = (
    *("PreTrainedTokenizer", "TokenizersBackend"),
    *("LlamaTokenizer", "Qwen2Tokenizer", "GemmaTokenizer"),
)
_USUAL = {
    "pad": ("<pad>", "[PAD]"),
    "bos": ("<s>", "<|endoftext|>"),
    "eos": ("</s>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]", "<|endoftext|>"),
    "mask": ("<mask>", "[MASK]"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
}


class Read(NamedTuple):
    """A tokenizer read from files.

    Attributes:
      model: A `tokenizers.Tokenizer`.
      specials: "pad" to "[PAD]", and so on.
      settings: Options of tokenizer_config.json.
    """

    model: Any
    specials: dict[str, str]
    settings: dict[str, Any]


def read_tokenizer(folder: Path) -> Read:
    """The tokenizer of a folder.

    Raises:
      ValueError: No vocabulary, an unreadable file, an unsupported class, or contradictory ids.
    """
    settings, config = _json(folder / _SETTINGS), _json(folder / "config.json")
    whole = _json(folder / _WHOLE) if (folder / _WHOLE).exists() else None
    family = _family(folder, settings, config, whole)
    try:
        return _read(folder, settings, whole, family)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{folder} must hold a readable vocabulary: {error}") from None


def _read(folder: Path, settings: dict[str, Any], whole, family: Family | None) -> Read:
    import tokenizers

    added, settings = _added(folder, _with_defaults(settings, whole, family), whole)
    if family is None:
        model = tokenizers.Tokenizer.from_file(str(folder / _WHOLE))
    else:
        model = family.start(folder, whole, settings)
    own, named = set(model.get_vocab()), _named(settings, family, added)
    _add(model, added, named, _listed(settings))
    _check_ids(model, added)
    _frame(model, settings, whole, family, named)
    asked = {str(token) for role, token in named.items() if role in settings}
    asked |= own | {str(token) for token in [*added.values(), *_listed(settings)]}
    model = _without_implied(model, {str(token) for token in named.values()} - asked)
    model.encode_special_tokens = bool(settings.get("split_special_tokens"))
    return Read(model, _specials(model, named), settings)


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _family(folder: Path, settings, config, whole) -> Family | None:
    """The class that builds the steps; None if tokenizer.json is complete."""
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    kind = _OF_MODELS.get(config.get("model_type", ""))
    if name is None and kind is None:
        kind = _guessed(folder) if whole is None else None
    family = FAMILIES.get(kind or "") if name is None else _of_class(folder, str(name))
    if whole is None and not (family and all((folder / file).exists() for file in family.files)):
        raise ValueError(
            f"{folder} must hold tokenizer.json, vocab.txt, or vocab.json with merges.txt, got "
            f"none of them that {name or 'a model'} reads."
        )
    stored = (whole or {}).get("model", {}).get("type")
    if family is not None and stored not in (None, family.kind):
        raise ValueError(
            f"{folder / _WHOLE} must hold a vocabulary of {family.kind}, as its class reads it, "
            f"got {stored}. Where tokenizer.json is right, set `tokenizer_class` of {_SETTINGS} to "
            "PreTrainedTokenizerFast."
        )
    return family


def _guessed(folder: Path) -> str | None:
    if (folder / "vocab.txt").exists():
        return "bert"
    return "roberta" if {"<s>", "</s>"} <= set(_json(folder / "vocab.json")) else "gpt2"


def _of_class(folder: Path, name: str) -> Family | None:
    short = name.removesuffix("Fast")
    if short in _GENERIC:
        return None
    kind = _CLASSES.get(short.removesuffix("Tokenizer"))
    if kind is None:
        raise ValueError(
            f"`tokenizer_class` of {folder} must be one of PreTrainedTokenizerFast, "
            f"{', '.join(f'{one}Tokenizer' for one in _CLASSES)}, got {name}. Where tokenizer.json "
            f"says all, set it to PreTrainedTokenizerFast in {_SETTINGS}."
        )
    return FAMILIES[kind]


def _with_defaults(settings: dict[str, Any], whole, family: Family | None) -> dict[str, Any]:
    """The options, with truncation and padding of tokenizer.json as defaults."""
    cut, pad = (whole or {}).get("truncation"), (whole or {}).get("padding")
    options = dict(settings)
    if cut:
        # Files before tokenizers 0.11 name no direction.
        options.setdefault("truncation_side", cut.get("direction", "Right").lower())
    if pad and family is None:  # a class has a name of its own for it
        options.setdefault("pad_token", pad["pad_token"])
    return options


def _token(given: Any, **more: bool):
    """A token from a file: its text, or its text with flags."""
    from tokenizers import AddedToken

    if not isinstance(given, dict):
        return given
    return AddedToken(**{k: v for k, v in given.items() if k not in ("__type", "id")} | more)


def _added(folder: Path, settings: dict[str, Any], whole) -> tuple[dict[int, Any], dict[str, Any]]:
    """Tokens added to the vocabulary, by id, and the options with those of older files."""
    settings = {
        key: _token(value) if key.endswith("_token") else value for key, value in settings.items()
    }
    if not settings.get("extra_special_tokens") and "additional_special_tokens" in settings:
        settings["extra_special_tokens"] = settings["additional_special_tokens"]
    if "added_tokens_decoder" in settings:
        given = settings["added_tokens_decoder"].items()
        return {int(number): _token(token) for number, token in given}, settings
    older = _json(folder / _MAP)
    settings |= {k: _token(v, special=True) for k, v in older.items() if k.endswith("_token")}
    if "extra_special_tokens" in older:
        listed = [_token(one, special=True) for one in _values(older["extra_special_tokens"])]
        before = _listed(settings)
        settings["extra_special_tokens"] = before + [one for one in listed if one not in before]
    special = {str(settings[f"{name}_token"]) for name in NAMED if settings.get(f"{name}_token")}
    special |= {str(token) for token in _listed(settings)}
    if "extra_special_tokens" not in settings:  # after `special`, as in transformers
        settings["extra_special_tokens"] = [
            _token(one, special=True) for one in _values(older.get("additional_special_tokens"))
        ]
    tokens = {}
    for text, number in _json(folder / _ADDED).items():
        flags = {"normalized": text not in special, "special": text in special}
        tokens[number] = _token({"content": text}, **flags)
    for one in (whole or {}).get("added_tokens", ()):
        tokens[one["id"]] = _token(one)
    return tokens, settings


def _values(given: Any) -> Iterable[Any]:
    return given.values() if isinstance(given, dict) else given or ()


def _listed(settings: dict[str, Any]) -> list[Any]:
    """Special tokens without a role."""
    return [_token(token) for token in _values(settings.get("extra_special_tokens"))]


def _named(
    settings: dict[str, Any], family: Family | None, added: dict[int, Any]
) -> dict[str, Any]:
    """Special tokens by role, such as `pad_token`; roles of single models come last."""
    defaults = {} if family is None else family.tokens
    roles = [f"{name}_token" for name in NAMED]
    whole = {str(token): token for token in added.values()}
    tokens: dict[str, Any] = {}
    for role in [*roles, *(key for key in settings if key.endswith("_token"))]:
        token = settings[role] if role in settings else defaults.get(role)
        if token is None or isinstance(token, bool):
            continue
        with_flags = whole if role in settings and role in roles else {}
        tokens.setdefault(role, with_flags.get(str(token), token))
    return tokens


def _add(model, added: dict[int, Any], named: dict[str, Any], listed: list[Any]) -> None:
    from tokenizers import AddedToken

    tokens = [added[number] for number in sorted(added)]
    texts = {str(token.content) for token in model.get_added_tokens_decoder().values()}
    texts |= {str(token) for token in tokens}
    for token in [*named.values(), *listed]:
        # The same text with other flags is added again: `add_tokens` uses the last.
        if str(token) not in texts and token not in tokens:
            tokens.append(token)
    roles = {str(token) for token in named.values()}
    whole = [AddedToken(one, special=True) if isinstance(one, str) else one for one in tokens]
    for token in whole:
        token.special = token.special or token.content in roles
    model.add_tokens(whole)


def _check_ids(model, added: dict[int, Any]) -> None:
    for number, token in added.items():
        if (got := model.token_to_id(str(token))) != number:
            raise ValueError(
                f"the added token {str(token)!r} must have the id {number} that its file says, got "
                f"{got}, the next one that the vocabulary leaves; number added tokens from the "
                "vocabulary's size on."
            )


def _frame(model, settings, whole, family: Family | None, named: dict[str, Any]) -> None:
    """Sets the special tokens around texts."""
    from tokenizers import processors

    if family is not None and family.frame is not None:
        model.post_processor = family.frame(model, settings, named)
        return
    asked = whole is None and ("add_bos_token" in settings or "add_eos_token" in settings)
    if model.post_processor is not None and not asked:
        return
    ends = [
        str(named.get(f"{name}_token", "")) if asked and settings.get(f"add_{name}_token") else ""
        for name in ("bos", "eos")
    ]

    def around(text: str, kind: int) -> str:
        parts = [ends[0], text, ends[1]]
        return " ".join(f"{part}:{kind}" for part in parts if part)

    model.post_processor = processors.TemplateProcessing(
        single=around("$A", 0),
        pair=f"{around('$A', 0)} {around('$B', 1)}",
        special_tokens=[(end, model.token_to_id(end)) for end in ends if end],
    )


def _without_implied(model, implied: set[str]):
    """Without the last tokens that only the class names: the embedding has no rows for them."""
    import tokenizers

    described = json.loads(model.to_str())
    framed = dumps(described["post_processor"], ascii_only=False)
    added = sorted(described["added_tokens"], key=lambda token: token["id"])
    kept = list(added)
    while kept and kept[-1]["content"] in implied and kept[-1]["content"] not in framed:
        kept.pop()
    if kept == added:
        return model
    return tokenizers.Tokenizer.from_str(dumps(described | {"added_tokens": kept}))


def _specials(model, named: dict[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in NAMED:
        given = named.get(f"{name}_token")
        for token in (str(given),) if given is not None else _USUAL[name]:
            if model.token_to_id(token) is not None:
                tokens[name] = token
                break
    return tokens
