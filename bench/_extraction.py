"""One training with a canary in its data, and what attacks read out of it."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from trustml import PrivacyPlan, baseline_step, fit, private_step
from trustml.audit.extraction import (
    Canary,
    all_codes,
    attack_target,
    code_number,
    draw_canary,
    exposure_by_extrapolation,
    exposure_by_rank,
    insert_canaries,
    invert_model,
    make_template,
    open_tagger,
    score_codes,
    score_guesses,
    tagged_units,
)
from trustml.data import hash_tokenizer, load
from trustml.data.examples import Examples, slots_only
from trustml.data.rows import bio_tags
from trustml.data.snips import generated
from trustml.metrics import slot_scores
from trustml.models import build_char_tagger

DELTA = 1e-5
LETTERS = 8  # of a word, where letters are read
SIZES = {"features": 64, "embedding": 32, "char_features": 16, "char_embedding": 16}
# Three of the seven intents, for the time that a CRF of all 39 slots takes.
SLOTS = {
    "AddToPlaylist": ("artist", "entity_name", "music_item", "playlist", "playlist_owner"),
    "GetWeather": (
        *("city", "condition_description", "condition_temperature", "country"),
        *("current_location", "geographic_poi", "spatial_relation", "state", "timeRange"),
    ),
    "RateBook": (
        *("best_rating", "object_name", "object_part_of_series_type", "object_select"),
        *("object_type", "rating_unit", "rating_value"),
    ),
}
_REFERENCES = 1000  # sampled for the extrapolation
_ENUMERATED = 10_000  # codes that are all scored, at most


class Case(NamedTuple):
    """A canary: pattern, words of its secret, copies among the training rows."""

    pattern: str
    length: int
    repetitions: int

    @property
    def name(self) -> str:
        """As the command line names it."""
        return "-".join(map(str, self))


class Defence(NamedTuple):
    """Defences of a training against the attacker."""

    dropout: float = 0.0
    early_stopping: bool = False
    letters: bool = False
    epsilon: float | None = None


class Experiment(NamedTuple):
    """How trainings go."""

    rows: int = 4000
    length: int = 14  # words kept of a row
    buckets: int = 2000
    batch: int = 64
    rate: float = 0.02
    epochs: int = 8
    private_batch: int = 256
    private_steps: int = 80
    private_rate: float = 0.02
    clip_norm: float = 0.1
    restarts: int = 50
    physical_batch_size: int = 64


class Data(NamedTuple):
    """Rows without canaries."""

    train: Examples
    valid: Examples


def read_data(experiment: Experiment, *, quick: bool) -> Data:
    """SNIPS from TRUSTML_DATA, the rows of three intents; generated ones where `quick`."""
    if quick:
        rows = generated(2 * experiment.rows + 20)
        return Data(_chosen(rows, experiment.rows), _chosen(rows, 10))
    parts = load("snips")
    return Data(_chosen(parts.train, experiment.rows), _chosen(parts.valid, None))


def _chosen(examples, count):
    """At most `count` rows, in an order that is the same for all trainings."""
    tagged = slots_only(examples)
    pairs = zip(tagged.rows, examples.rows, strict=True)
    rows = [row for row, utterance in pairs if utterance.intent in SLOTS]
    order = np.random.default_rng(0).permutation(len(rows))[:count]
    return dataclasses.replace(
        tagged,
        rows=tuple(rows[place] for place in order),
        labels=tuple(sorted({slot for slots in SLOTS.values() for slot in slots})),
        owner_kind=None,
        owners=None,
        group_of=None,
    )


class Study:
    """Trainings of one case under one defence: they share programs, and differ in their seed."""

    def __init__(self, data: Data, experiment: Experiment, case: Case, defence: Defence):
        self.data, self.experiment, self.case, self.defence = data, experiment, case, defence
        self.letters = LETTERS if defence.letters else 0
        self.template = make_template(case.pattern, case.length)
        if len(self.template.tags) > experiment.length:
            raise ValueError(
                f"`length` must leave the canary whole, got {experiment.length} words for "
                f"{case.name}."
            )
        self.tokenizer = hash_tokenizer(experiment.buckets, hashes=1, affixes=0)
        self.tags = (*data.train.tags, *bio_tags((self.template.slot,))[1:])
        shape: dict[str, Any] = {"table_sizes": self.tokenizer.sizes, "tags": self.tags, **SIZES}
        self.box = _opened(self.tokenizer.sizes, self.tags)
        self.network = build_char_tagger(**shape)
        self.step = self._step(build_char_tagger(**shape, dropout=defence.dropout).loss)
        self.target = attack_target(
            self.template, self.tokenizer, tags=self.tags, letters=self.letters
        )
        # One program for all trainings.
        self.losses = jax.jit(jax.vmap(self.network.loss, (None, 0)))
        self.start = jax.jit(self.network.init)

    @property
    def settings(self) -> str:
        """The settings that a line of results is valid for."""
        source = self.data.train.source
        return f"{self.experiment}; {self.defence}; {SIZES}; {len(self.data.train)} of {source}"

    def run(self, seed: int) -> dict[str, Any]:
        """Trains once with a canary of its own, attacks and evaluates."""
        rng = np.random.default_rng((seed, 7))
        canary = draw_canary(self.template, rng)
        planted = insert_canaries(*self.data, [canary], repetitions=self.case.repetitions, rng=rng)
        train, valid = map(self._units, (planted.train, planted.valid))
        start = self.start(jax.random.key(seed))
        found = fit(self.step, start, train, seed=seed, progress=False, **self._stopping(valid))
        return {
            **attacked(self, found.params, canary, seed),
            "slot_f1": self._slot_f1(found.params),
            "steps": int(found.state.step),
            "epsilon": self.step.plan.epsilon(DELTA) if self.step.private else None,
        }

    def _units(self, examples: Examples) -> dict[str, np.ndarray]:
        return tagged_units(
            examples, self.tokenizer, length=self.experiment.length, letters=self.letters
        )

    def _step(self, loss):
        """Draws of a fixed size without privacy; Poisson draws, bounds and noise with it."""
        experiment, epsilon = self.experiment, self.defence.epsilon
        units = len(self.data.train) + self.case.repetitions
        if epsilon is None:
            plan = PrivacyPlan(
                clip_norm=1.0,
                noise_multiplier=0.0,
                num_units=units,
                sample_rate=experiment.batch / units,
                expected_batch=experiment.batch,
                steps=experiment.epochs * (units // experiment.batch),
                sampling="fixed",
                adjacency="replace-one",
                accountant="rdp",
            )
            return baseline_step(loss, optax.adam(experiment.rate), plan)
        plan = PrivacyPlan.calibrate(
            epsilon=epsilon,
            delta=DELTA,
            num_units=units,
            expected_batch=experiment.private_batch,
            steps=experiment.private_steps,
            clip_norm=experiment.clip_norm,
        )
        optimizer = optax.adam(experiment.private_rate)
        return private_step(
            loss, optimizer, plan, physical_batch_size=experiment.physical_batch_size
        )

    def _stopping(self, valid) -> dict[str, Any]:
        """As in the replication: the first epoch after the third with a higher validation loss."""
        if not self.defence.early_stopping:
            return {}
        plan = self.step.plan
        every = max(1, round(1 / plan.sample_rate))

        def rose(seen):
            return len(seen) > 3 and seen[-1]["loss"] > seen[-2]["loss"]

        return {
            "evaluate": lambda params: {"loss": float(self.losses(params, valid).mean())},
            "evaluate_every": min(every, plan.steps),
            "stop": rose,
        }

    def _slot_f1(self, params) -> float:
        """On the validation rows without canaries."""
        truth = [row.tags[: self.experiment.length] for row in self.data.valid.rows]
        found = np.asarray(self.network.predict(params, self._clean))
        said = [
            [self.tags[tag] for tag in row[: len(tags)]]
            for row, tags in zip(found, truth, strict=True)
        ]
        return slot_scores(truth, said)[2]

    @functools.cached_property
    def _clean(self):
        return self._units(self.data.valid)


@functools.cache
def _opened(table_sizes, tags):
    """One for all defences, whose attacks then share their programs."""
    return open_tagger(table_sizes=table_sizes, tags=tags, **SIZES)


def attacked(study: Study, params, canary: Canary, seed: int) -> dict[str, Any]:
    """The results of the attacks on one secret."""
    template, box, target = study.template, study.box, study.target
    words = len(template.vocabulary)
    guess = functools.partial(score_guesses, secret=canary.secret, candidates=words)
    found = invert_model(
        params, box, target, key=jax.random.key(seed), restarts=study.experiment.restarts
    )
    every, best = guess(found.codes), guess(np.array([found.best]))
    loss, others = _losses(study, params, canary, seed)
    rng = np.random.default_rng((seed, 9))
    sample = others[rng.choice(len(others), min(_REFERENCES, len(others)), replace=False)]
    fitted = exposure_by_extrapolation(loss, sample)
    result = {
        "extracted": best.accuracy == 1.0,
        "hamming": best.hamming,
        "restarts_right": every.accuracy,
        "restarts_hamming": every.hamming,
        "exposure_fit": fitted.exposure,
        "fit_distance": fitted.distance,
    }
    if len(others) == template.codes - 1:
        # A tie for the lowest loss does not count: the attacker has to name one code.
        result["exhaustive"] = bool(loss < others.min())
        result["exposure"] = exposure_by_rank(loss, others)
    return result


def _losses(study: Study, params, canary: Canary, seed: int) -> tuple[float, np.ndarray]:
    """Of the secret, and of all other codes or, where there are too many, of a sample."""
    template, words = study.template, len(study.template.vocabulary)
    if template.codes <= _ENUMERATED:
        codes = np.delete(all_codes(template.length, words), code_number(canary.secret, words), 0)
    else:
        codes = np.random.default_rng((seed, 8)).integers(
            words, size=(_REFERENCES, template.length)
        )
        codes = codes[(codes != np.array(canary.secret)).any(1)]
    both = np.concatenate([np.array([canary.secret]), codes])
    losses = score_codes(params, study.box, study.target, both)
    return float(losses[0]), losses[1:]
