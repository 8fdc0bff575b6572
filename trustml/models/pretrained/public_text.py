"""Small language models that are trained here on public text, as a start without a download.

BERT learns to predict masked words (Devlin et al., 2018), GPT-2 the next word, and BART masked
spans (Lewis et al., 2019). A model is trained once and kept in a folder as `save_pretrained` writes
it, so later code treats it as any pretrained model. The text must be public: nothing here protects
it, and the tokenizer's vocabulary reveals it.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trustml.models.network import Network
from trustml.models.pretrained.checkpoints import WEIGHTS
from trustml.models.pretrained.loading import Pretrained
from trustml.models.pretrained.saving import save_pretrained
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Options
from trustml.strict_json import dumps

_VERSION = 1  # of the recipe; another version trains the model again
_MASKED = 0.15  # share of tokens that BERT predicts
_SPAN = 3.0  # mean length of BART's masked spans
_INFILLED = 0.3  # share of tokens in such spans

Progress = Callable[[int, int, float], None]  # steps done, steps in all, loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicModel:
    """Sizes and training of a small model.

    Args:
      kind: "bert", "gpt2" or "bart".
      vocabulary: Number of tokens in the vocabulary.
      features: Width.
      layers: Number of layers of the encoder, and of the decoder.
      heads: Number of attention heads.
      length: Tokens of a row in training.
      positions: Largest number of positions.
      steps: Optimizer steps.
      batch: Rows per step.
      learning_rate: Peak of the cosine schedule.
      seed: Seed of the initial weights and of the order of rows; not a secret.
    """

    kind: str
    vocabulary: int = 2048
    features: int = 64
    layers: int = 2
    heads: int = 4
    length: int = 64
    positions: int = 512
    steps: int = 1000
    batch: int = 64
    learning_rate: float = 4e-3
    seed: int = 0

    @property
    def head(self) -> str:
        """The head for its training."""
        return {"bert": "mlm", "gpt2": "lm", "bart": "seq2seq"}[self.kind]

    def tokenizer(self, texts: Sequence[str], source: str) -> TextTokenizer:
        """Its tokenizer, learned from public text."""
        kind = "wordpiece" if self.kind == "bert" else "bpe"
        return TextTokenizer.train(texts, self.vocabulary, kind, source=source)

    def config(self, tokenizer: TextTokenizer) -> ModelConfig:
        """Its sizes."""
        return ModelConfig(
            model_type=self.kind,
            vocab_size=tokenizer.vocab_size,
            hidden_size=self.features,
            num_layers=self.layers,
            num_heads=self.heads,
            intermediate_size=4 * self.features,
            max_positions=self.positions,
            type_vocab_size=2 if self.kind == "bert" else 0,
            activation="gelu_new" if self.kind == "gpt2" else "gelu",
            pad_id=tokenizer.pad_id,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            decoder_layers=self.layers if self.kind == "bart" else 0,
            decoder_heads=self.heads if self.kind == "bart" else 0,
            decoder_intermediate_size=4 * self.features if self.kind == "bart" else 0,
            decoder_start_id=tokenizer.eos_id or 0,
        )


def public_model(
    model: PublicModel,
    texts: Sequence[str],
    source: str,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of a small pretrained model; the first call trains it, which takes minutes.

    Args:
      model: Sizes and training.
      texts: Public text.
      source: Source of the text, for the tokenizer's statement.
      cache: Folder for models; by default `~/.cache/trustml/models`.
      progress: Called every twenty steps.

    Raises:
      ValueError: There is not enough text.
    """
    root = cache or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "trustml/models"
    )
    folder = root / f"mini-{model.kind}-{_digest(model, texts)}"
    if (folder / WEIGHTS).exists():
        return folder
    tokenizer = model.tokenizer(texts, source)
    config = model.config(tokenizer)
    network = build_language_model(config, model.head)
    params = pretrain_language(model, network, tokenizer, texts, progress)
    made = Pretrained(network, params, config, tokenizer, (), model.head, Options())
    if not folder.exists():  # another process may have been quicker
        save_pretrained(folder, made)
    return folder


def _digest(model: PublicModel, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(dumps([_VERSION, dataclasses.asdict(model)]).encode())
    for text in texts:
        digest.update(text.encode() + b"\x00")
    return digest.hexdigest()[:16]


def pretrain_language(
    model: PublicModel,
    network: Network,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    progress: Progress | None = None,
) -> Any:
    """Parameters of `network`, trained from random weights on rows cut from `texts`."""
    stream = _stream(tokenizer, texts)
    room = model.length - 2
    if len(stream) < 4 * model.length:
        raise ValueError(
            f"`texts` must give at least {4 * model.length} tokens to learn from, got "
            f"{len(stream)}."
        )
    rates = optax.warmup_cosine_decay_schedule(
        0.0, model.learning_rate, min(50, model.steps // 2), model.steps
    )
    optimizer = optax.adamw(rates, weight_decay=0.01)
    draw = np.random.default_rng(model.seed)
    params = network.init(jax.random.key(model.seed))
    state = optimizer.init(params)
    update = _updater(network, optimizer)
    for step in range(model.steps):
        starts = draw.integers(len(stream) - room, size=model.batch)
        rows = stream[starts[:, None] + np.arange(room)]
        params, state, loss = update(params, state, _ROWS[model.kind](rows, tokenizer, draw))
        if progress is not None and (step % 20 == 19 or step + 1 == model.steps):
            progress(step + 1, model.steps, float(loss))
    return params


def _updater(network: Network, optimizer: optax.GradientTransformation):
    def mean_loss(params, units):
        return jnp.mean(jax.vmap(network.loss, (None, 0))(params, units))

    @jax.jit
    def update(params, state, units):
        loss, gradient = jax.value_and_grad(mean_loss)(params, units)
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix dtypes
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, loss

    return update


def _stream(tokenizer: TextTokenizer, texts: Sequence[str]) -> np.ndarray:
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    rows = [tokenizer.encode(text, special=False).ids + end for text in texts]
    return np.array([token for ids in rows for token in ids], np.int32)


def _framed(rows: np.ndarray, first: int | None, last: int | None) -> np.ndarray:
    sides = [np.full((len(rows), 1), token, np.int32) for token in (first, last)]
    return np.concatenate([sides[0], rows, sides[1]], 1)


def _masked(rows, tokenizer, draw) -> dict[str, np.ndarray]:
    """BERT's rows: of the chosen tokens 80 % are masked, 10 % are random, 10 % are unchanged."""
    ids = _framed(rows, tokenizer.cls_id, tokenizer.sep_id)
    inside = np.zeros(ids.shape, bool)
    inside[:, 1:-1] = True
    chosen = inside & (draw.random(ids.shape) < _MASKED)
    fate = draw.random(ids.shape)
    shown = np.where(chosen & (fate < 0.8), tokenizer.mask_id, ids)
    strange = draw.integers(tokenizer.vocab_size, size=ids.shape)
    shown = np.where(chosen & (fate >= 0.9), strange, shown).astype(np.int32)
    mask = np.ones(ids.shape, bool)
    return {"ids": shown, "mask": mask, "labels": ids, "label_mask": chosen}


def _following(rows, tokenizer, draw) -> dict[str, np.ndarray]:
    del draw
    ids = _framed(rows, tokenizer.bos_id, tokenizer.eos_id)[:, :-1]
    return {"ids": ids, "mask": np.ones(ids.shape, bool)}


def _infilled(rows, tokenizer, draw) -> dict[str, np.ndarray]:
    """BART's rows: each chosen span becomes one mask token."""
    targets = _framed(rows, tokenizer.bos_id, tokenizer.eos_id)
    ids = np.full(targets.shape, tokenizer.pad_id, np.int32)
    mask = np.zeros(targets.shape, bool)
    for index, row in enumerate(rows):
        left = [tokenizer.bos_id, *_with_spans(row, tokenizer.mask_id, draw), tokenizer.eos_id]
        ids[index, : len(left)] = left
        mask[index, : len(left)] = True
    everywhere = np.ones(targets.shape, bool)
    return {"ids": ids, "mask": mask, "target_ids": targets, "target_mask": everywhere}


def _with_spans(row, mark: int, draw) -> list[int]:
    gone = np.zeros(len(row), bool)
    while gone.mean() < _INFILLED:
        start = draw.integers(len(row))
        gone[start : start + max(1, draw.poisson(_SPAN))] = True
    begins = gone & ~np.concatenate([[False], gone[:-1]])
    return [
        mark if gone[at] else int(row[at]) for at in range(len(row)) if begins[at] or not gone[at]
    ]


_ROWS = {"bert": _masked, "gpt2": _following, "bart": _infilled}
