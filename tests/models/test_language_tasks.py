"""Tasks in tokens: what is encoded, what predictions say in words, small public models."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from trustml.data import Examples
from trustml.data.rows import Answer, Document, Pair, Question, Tagged, Text
from trustml.models.pretrained.loading import from_pretrained
from trustml.models.pretrained.public_text import PublicModel, pretrain_language, public_model
from trustml.models.tasks import language
from trustml.models.tasks import tokens as tokens
from trustml.models.tasks.language import language_task
from trustml.models.tasks.tokens import Limits
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.generation import generate
from trustml.models.transformers.language import build_language_model

TEXT = "the cat sat on a mat while seventeen unbelievable dogs were running around houses"
WORDS = TEXT.split()


def sentences(count, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 12)) for _ in range(count)]


PUBLIC = sentences(200)
SIZES = {"features": 16, "layers": 1, "heads": 2, "length": 16, "positions": 64, "batch": 8}


def mini(kind, **sizes):
    return PublicModel(kind=kind, vocabulary=300, **{**SIZES, "steps": 4, **sizes})


@pytest.fixture(scope="module")
def tokenizers():
    return {
        "bert": TextTokenizer.train(PUBLIC, 120, "wordpiece", source="test"),
        "gpt2": TextTokenizer.train(PUBLIC, 300, "bpe", source="test"),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of the kind that is asked for, made once."""
    cache = tmp_path_factory.mktemp("cache")

    @functools.cache
    def folder(kind):
        with jax.numpy_dtype_promotion("standard"):
            return public_model(mini(kind), PUBLIC, "test", cache)

    return folder


_KINDS = ("bert", "gpt2", "bart")


def examples(task, rows, **fields):
    return Examples(name="demo", split="train", task=task, rows=tuple(rows), unit="row", **fields)


def question(answer, asked="where is it ?"):
    return Question(asked, TEXT, (Answer(answer, TEXT.index(answer)),), asked)


SETS = {
    "classify": examples(
        "classify",
        [Text("the cat sat", "cats"), Text("dogs were running", "dogs")],
        labels=("cats", "dogs"),
    ),
    "tag": examples(
        "tag",
        [
            Tagged(("catdogs", "dogs", "sat"), ("O", "B-animal", "O")),
            Tagged(("a", "cat"), ("O", "B-animal")),
        ],
        labels=("animal",),
    ),
    "qa": examples("qa", [question("unbelievable dogs"), question("mat", "cat on ?")]),
    "lm": examples("lm", [Document(text) for text in sentences(6, 3)]),
    "seq2seq": examples(
        "seq2seq", [Pair("the cat", ("dogs",)), Pair("running houses", ("a mat",))]
    ),
}
MODEL = {"classify": "bert", "tag": "bert", "qa": "bert", "lm": "gpt2", "seq2seq": "bart"}


def problem_of(task, folders, limits):
    schema = SETS[task]
    found = from_pretrained(
        folders(MODEL[task]),
        head=task,
        labels=schema.labels if task == "classify" else (),
        tags=schema.tags if task == "tag" else (),
    )

    def write(params, sources, most):
        return generate(
            found.config, params, sources, max_new_tokens=most, eos_id=found.config.eos_id
        )

    return language_task(
        schema,
        network=found.network,
        tokenizer=found.tokenizer,
        start=lambda seed: found.params,
        limits=limits,
        config={},
        disclosures=(),
        write=write if task == "seq2seq" else None,
    )


@pytest.mark.usefixtures("relaxed_promotion")  # optax's Adam promotes its step count
@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=() if task == "tag" else pytest.mark.slow) for task in sorted(SETS)],
)
def test_every_task_is_learnt_by_heart(task, folders):
    """The judge finds in the words of the predictions what the loss taught in tokens."""
    net = problem_of(task, folders, Limits(60, 12))
    units = net.encode(SETS[task]).arrays
    params = net.start(0)
    optimizer = optax.adam(0.02)

    @jax.jit
    def update(params, state):
        mean = lambda p: jax.vmap(net.network.loss, (None, 0))(p, units).mean()  # noqa: E731
        updates, state = optimizer.update(jax.grad(mean)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(150):
        params, state = update(params, state)
    scores = net.scoring.scores(net.counts(params, SETS[task]))
    if task == "lm":
        assert scores["perplexity"] < 1.5
    else:
        headline = net.scoring.metrics[0].name
        assert scores[headline] == 1.0
    quick = net.scoring.scores(net.counts(params, SETS[task], quick=True))
    assert set(quick) == set(scores)


def test_tags_stand_at_the_first_piece_of_each_word(tokenizers):
    encoded = tokens.encode(SETS["tag"], tokenizers["bert"], Limits(24)).arrays
    assert encoded["tag_mask"].sum(1).tolist() == [3, 2]
    assert (encoded["ids"] > 0).sum(1)[0] > 5  # "catdogs" is more than one piece
    tags = SETS["tag"].tags
    said = [tags[tag] for tag in encoded["tags"][0][encoded["tag_mask"][0]]]
    assert said == ["O", "B-animal", "O"]


def test_documents_lose_nothing(tokenizers):
    tokenizer = tokenizers["gpt2"]
    found = tokens.encode(SETS["lm"], tokenizer, Limits(8))
    for place, row in enumerate(SETS["lm"].rows):
        ids = [
            piece
            for chunk in np.flatnonzero(found.row_of == place)
            for piece in found.arrays["ids"][chunk][found.arrays["mask"][chunk]][1:]
        ]
        assert tokenizer.decode(ids) == row.text
    assert found.arrays["mask"].any(1).all()


@pytest.mark.parametrize("place", [0, 40, 90])
def test_windows_hold_the_answer_and_point_at_its_words(place, tokenizers):
    context = " ".join(sentences(10, 5))
    words = context.split()
    start = len(" ".join(words[:place])) + (place > 0)
    answer = " ".join(words[place : place + 2])
    row = Question("where is it ?", context, (Answer(answer, start),), "1")
    data = examples("qa", [row])
    tokenizer = tokenizers["bert"]
    found = tokens.encode(data, tokenizer, Limits(32)).arrays
    windows = tokens.windows(0, row, tokenizer, 32)
    assert len(windows) > 5
    held = [
        window for window in windows if window.ids == found["ids"][0][found["mask"][0]].tolist()
    ]
    spans = [
        context[window.spans[found["start"][0]][0] : window.spans[found["end"][0]][1]]
        for window in held
    ]
    assert answer in spans
    assert found["context_mask"][0][[found["start"][0], found["end"][0]]].all()
    covered = {at for window in windows for at in _characters(window)}
    assert covered >= {at for at, letter in enumerate(context) if letter != " "}


def _characters(window):
    spans = [span for span, inside in zip(window.spans, window.context, strict=True) if inside]
    return {at for start, end in spans for at in range(start, end)}


def test_odd_questions_end_no_run(tokenizers):
    """A long question is cut, a context of nothing answers nothing, and no error quotes a row."""
    tokenizer = tokenizers["bert"]
    long = question("mat", " ".join(["cat"] * 100))
    empty = Question("who ?", "\u200b", (Answer("\u200b", 0),), "2")
    far = question(TEXT[:60])  # longer than a window
    found = tokens.encode(examples("qa", [long, empty, far]), tokenizer, Limits(24)).arrays
    assert found["context_mask"].any(1).tolist() == [True, False, True]
    assert (found["start"][1:] == 0).all()  # where no context stands: their loss is 0
    assert all(any(window.context) for window in tokens.windows(0, long, tokenizer, 24))
    with pytest.raises(ValueError, match="`max_length` must be at least 24"):
        tokens.windows(0, question("mat"), tokenizer, 10)


def test_a_quick_perplexity_is_that_of_evenly_spaced_documents(tokenizers, monkeypatch):
    tokenizer = tokenizers["gpt2"]
    sizes = {"hidden_size": 8, "intermediate_size": 8, "max_positions": 16, "num_layers": 1}
    config = ModelConfig(model_type="gpt2", num_heads=1, vocab_size=tokenizer.vocab_size, **sizes)
    network = build_language_model(config, "lm")
    params = network.init(jax.random.key(0))
    part = SETS["lm"]
    made = {"network": network, "tokenizer": tokenizer, "limits": Limits(16)}
    task = language_task(part, **made, start=network.init, config={}, disclosures=())
    whole = task.counts(params, part)
    assert (task.counts(params, part, quick=True) == whole).all()
    monkeypatch.setattr(language, "_QUICK", 3)
    quick = task.counts(params, part, quick=True)
    np.testing.assert_allclose(quick[::2], whole[::2], rtol=1e-6)
    assert not quick[1::2].any()
    assert task.scoring.scores(quick) == task.scoring.scores(quick[::2])


@pytest.mark.slow
def test_a_task_that_writes_needs_a_writer(folders):
    net = from_pretrained(folders("bart"), head="seq2seq")
    given = {"network": net.network, "tokenizer": net.tokenizer, "start": lambda seed: net.params}
    with pytest.raises(ValueError, match="`write` must be given"):
        language_task(SETS["seq2seq"], **given, limits=Limits(), config={}, disclosures=())


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
def test_a_public_model_is_made_once_and_kept(kind, folders):
    told = []
    again = public_model(
        mini(kind), PUBLIC, "test", folders(kind).parent, lambda *step: told.append(step)
    )
    assert again == folders(kind)
    assert told == []
    others = dataclasses.replace(mini(kind), seed=1)
    with jax.numpy_dtype_promotion("standard"):
        other = public_model(others, PUBLIC, "test", again.parent, lambda *s: told.append(s))
    assert other != again
    assert told[-1][:2] == (4, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")
@pytest.mark.parametrize("kind", _KINDS)
def test_pretraining_learns_from_public_text(kind, folders):
    head = mini(kind).head
    found = from_pretrained(folders(kind), head=head)
    losses = []
    recipe = mini(kind, steps=200)
    pretrain_language(
        recipe, found.network, found.tokenizer, PUBLIC, lambda *step: losses.append(step[2])
    )
    assert losses[-1] < losses[0] - 0.5


def test_too_little_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`texts` must give at least 64 tokens"):
        public_model(mini("gpt2"), ["the cat"], "test", tmp_path)
    assert list(tmp_path.iterdir()) == []
