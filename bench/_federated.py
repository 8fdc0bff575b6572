"""Devices that hold utterances, a linear model on hashed words, and how well it serves them."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trustml import data
from trustml.federated import Clients

_WORDS, _LONGEST = 4096, 24
_HELD_BACK = 5  # one row in so many of a device that has as many
_JUDGED = 5  # rows held back, at least, of a device that is judged by itself


class Corpus(NamedTuple):
    """A data set as arrays."""

    rows: dict[str, np.ndarray]  # "tokens" [row, time], "label" [row]
    test: dict[str, np.ndarray]
    classes: int


class Devices(NamedTuple):
    """Clients, and rows of each that nobody trains on."""

    clients: Clients
    held_back: dict[str, np.ndarray]
    owner: np.ndarray  # device of each row that is held back


class Scores(NamedTuple):
    """How a model does."""

    accuracy: float  # of the test part
    mean: float  # over devices, on rows held back, where these are five or more
    lowest: float  # mean of the lowest tenth of these devices
    light: float  # over the rows held back by the less active half of all devices


def corpus(name: str = "hwu64") -> Corpus:
    """The corpus from the folder in TRUSTML_DATA."""
    folder = os.environ.get("TRUSTML_DATA")
    if folder is None:
        raise SystemExit(f"TRUSTML_DATA must name the folder that holds {name}, got none.")
    splits = data.load(name, folder)
    tokens = data.hash_tokenizer(_WORDS, hashes=1, affixes=0)
    train, test = (_arrays(part, tokens) for part in (splits.train, splits.test))
    return Corpus(train, test, len(splits.train.labels))


def _arrays(part: Any, tokens: Any) -> dict[str, np.ndarray]:
    found = data.encode(part, tokens, _LONGEST)
    words = np.where(found["mask"], found["tokens"][..., 0], -1)
    return {"tokens": words.astype(np.int32), "label": found["intent"].astype(np.int32)}


def devices(rows: dict[str, np.ndarray], client_of_row: np.ndarray, seed: int) -> Devices:
    """Every fifth row of a device, drawn by chance, is held back."""
    mixed = np.random.default_rng(seed).permutation(len(client_of_row))
    order = mixed[np.argsort(client_of_row[mixed], kind="stable")]
    owner = client_of_row[order]
    first = np.searchsorted(owner, owner)
    held = (np.arange(len(owner)) - first) % _HELD_BACK == _HELD_BACK - 1
    take = lambda which: {name: leaf[order[which]] for name, leaf in rows.items()}  # noqa: E731
    return Devices(Clients.from_arrays(take(~held), owner[~held]), take(held), owner[held])


def zipf_sizes(rows: int, clients: int, seed: int) -> np.ndarray:
    """Whose each row is, where device k holds rows in proportion to 1 / k; every device has one."""
    share = 1 / np.arange(1, clients + 1)
    sizes = 1 + np.floor((rows - clients) * share / share.sum()).astype(int)
    sizes[0] += rows - sizes.sum()
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(clients), sizes))


def start(classes: int) -> dict[str, jax.Array]:
    """Weights of a linear model on words."""
    return {"words": jnp.zeros((_WORDS, classes)), "bias": jnp.zeros(classes)}


def loss(params: dict[str, jax.Array], row: dict[str, jax.Array]) -> jax.Array:
    """Cross-entropy of one utterance."""
    return optax.softmax_cross_entropy_with_integer_labels(_scores(params, row), row["label"])


def _scores(params, row):
    held = (row["tokens"] >= 0).astype(jnp.float32)
    found = params["words"][jnp.maximum(row["tokens"], 0)] * held[:, None]
    return found.sum(0) / jnp.sqrt(jnp.maximum(held.sum(), 1.0)) + params["bias"]


def percent(estimate: dict[str, Any]) -> str:
    """A mean and half its interval."""
    return f"{100 * estimate['value']:.1f} +- {50 * (estimate['high'] - estimate['low']):.1f}"


@jax.jit
def right(params: dict[str, jax.Array], rows: dict[str, jax.Array]) -> jax.Array:
    """Whether each utterance is understood."""
    scores = jax.vmap(lambda row: _scores(params, row))(rows)
    return jnp.argmax(scores, -1) == rows["label"]


def scores_of(devices_: Devices, test: dict[str, np.ndarray]) -> Callable[[Any], Scores]:
    """Scores a model on the test part and on the rows that devices hold back."""
    owner = devices_.owner
    clients = devices_.clients
    number = np.bincount(owner, minlength=len(clients))
    light = clients.counts[owner] <= np.median(clients.counts)

    def scores(params: Any) -> Scores:
        hits = np.asarray(right(params, devices_.held_back), float)
        each = np.bincount(owner, hits, len(clients)) / np.maximum(number, 1)
        each = np.sort(each[number >= _JUDGED])
        lowest = each[: max(1, len(each) // 10)].mean()
        test_part = float(right(params, test).mean())
        return Scores(test_part, float(each.mean()), float(lowest), float(hits[light].mean()))

    return scores
