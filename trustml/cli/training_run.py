"""What `trustml train` does: load, plan, train both, judge, report."""

import contextlib
import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from trustml.cli.config import TrainConfig, changed
from trustml.cli.presets import PRESETS, Preset
from trustml.data import encode, load
from trustml.models.evaluation import predict
from trustml.models.metrics import bootstrap_slot_f1, joint_scores, wilson_interval
from trustml.models.nlu import ENCODERS, Network
from trustml.plan import PrivacyPlan
from trustml.report import SCHEMA_VERSION, Estimate, mean_of, versions, write_json, write_lines
from trustml.training import TrainStep, baseline_step, fit, private_step

TIMED_STEPS = 7


class Setting(NamedTuple):
    """Everything that all runs of one call share."""

    config: TrainConfig
    preset: Preset
    splits: Any
    network: Network
    train: dict
    valid: Any
    judged: Any


class Side(NamedTuple):
    """One finished training, private or not."""

    scores: Any
    accuracy: Estimate
    f1: Estimate
    seconds: float
    history: list


def train_and_report(config: TrainConfig) -> tuple[dict, Path]:
    """Runs `trustml train`; returns the report and the folder it was written to."""
    folder = config.folder()
    setting = _setting(config)
    plan = _private_plan(setting)
    steps = _steps(setting, plan)
    with _new_folder(folder):
        sides: dict[str, list[Side]] = {}
        for turn in range(config.repeats):
            seed = None if config.seed is None else config.seed + turn
            start = _start(setting, seed)
            for name, step in steps.items():
                label = f"{name} {turn + 1}/{config.repeats}" if config.repeats > 1 else name
                sides.setdefault(name, []).append(_run(setting, label, step, start, seed))
        report = _report(setting, plan, sides, _step_times(setting, steps["private"]))
        write_lines(folder / "metrics.jsonl", _lines(sides))
        write_json(folder / "report.json", report)
    return report, folder


def _start(setting: Setting, seed: int | None):
    chosen = setting.preset.pretraining
    if chosen is not None and not setting.config.quiet:
        rows, steps = f"{chosen.rows:,}", f"{chosen.steps:,}"
        print(f"pretraining: {steps} steps on {rows} generated rows, a minute", file=sys.stderr)
    return setting.preset.start(setting.network, seed=seed or 0)


@contextlib.contextmanager
def _new_folder(folder: Path):
    """The folder, made before the work so that an unwritable place shows; gone if left empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        raise


def _setting(config: TrainConfig) -> Setting:
    if config.on not in ("test", "valid"):
        raise ValueError(f"`--on` must be test or valid, got {config.on!r}.")
    name = config.preset or config.data
    splits = load(config.data, config.data_dir, download=config.download)
    if name not in PRESETS:
        raise ValueError(f"`--preset` must be one of {', '.join(PRESETS)}, got {name!r}.")
    preset = changed(
        PRESETS[name], network=config.model, epsilon=config.epsilon, delta=config.delta
    )
    if preset.network not in ENCODERS:
        raise ValueError(f"`--model` must be one of {', '.join(ENCODERS)}, got {preset.network!r}.")
    private = changed(
        preset.private,
        expected_batch=config.batch,
        steps=config.steps,
        clip_norm=config.clip_norm,
        learning_rate=config.learning_rate,
    )
    baseline = changed(preset.baseline, steps=config.baseline_steps)
    preset = dataclasses.replace(preset, private=private, baseline=baseline)
    if config.pretrain is False:
        preset = dataclasses.replace(preset, pretraining=None)
    elif config.pretrain and preset.pretraining is None:
        raise ValueError(f"`--pretrain` must be off for the preset {name!r}, which has no recipe.")
    return Setting(
        config,
        preset,
        splits,
        preset.build(splits.train),
        encode(splits.train, preset.tokenizer(), preset.max_length),
        splits.valid,
        splits.test if config.on == "test" else splits.valid,
    )


def _private_plan(setting: Setting) -> PrivacyPlan:
    config, preset = setting.config, setting.preset
    return PrivacyPlan.calibrate(
        epsilon=preset.epsilon,
        delta=preset.delta,
        num_units=len(setting.splits.train),
        expected_batch=preset.private.expected_batch,
        steps=preset.private.steps,
        clip_norm=preset.private.clip_norm,
        clipping=config.clipping,
        sampling=config.sampling,
        adjacency=config.adjacency,
        accountant=config.accountant,
        unit=setting.splits.train.privacy_unit,
    )


def _steps(setting: Setting, plan: PrivacyPlan) -> dict[str, TrainStep]:
    preset, config = setting.preset, setting.config
    private = private_step(
        setting.network.loss,
        preset.private.optimizer(),
        plan,
        strategy=config.strategy,
        microbatch=_microbatch(config),
    )
    steps = {"private": private}
    if config.baseline:
        units = len(setting.splits.train)
        batch = min(preset.baseline.expected_batch, units)
        draws = PrivacyPlan(
            clip_norm=1.0,
            noise_multiplier=0.0,
            sample_rate=batch / units,
            steps=preset.baseline.steps,
            expected_batch=batch,
            num_units=units,
        )
        steps["baseline"] = baseline_step(
            setting.network.loss, preset.baseline.optimizer(), draws, microbatch=_microbatch(config)
        )
    return steps


def _microbatch(config: TrainConfig) -> int:
    # Measured: slices of this size stay in cache, and slices of padding alone are skipped.
    return config.microbatch or 256


def _run(setting: Setting, label: str, step: TrainStep, start: Any, seed: int | None) -> Side:
    def evaluate(params):
        scores = _scores(setting, params, setting.valid)
        return {"valid_intent": scores.intent_accuracy, "valid_slot_f1": scores.slot_f1}

    began = time.perf_counter()
    result = fit(
        step,
        start,
        setting.train,
        evaluate=evaluate,
        seed=seed,
        progress=label if not setting.config.quiet else False,
    )
    seconds = time.perf_counter() - began
    return _judge(setting, result.params, seconds, result.history)


def _predictions(setting: Setting, params, corpus):
    preset = setting.preset
    return predict(
        setting.network, params, corpus, preset.tokenizer(), max_length=preset.evaluation_length
    )


def _scores(setting: Setting, params, corpus):
    found = _predictions(setting, params, corpus)
    return joint_scores(
        [said.intent for said in corpus.utterances],
        found.intents,
        [said.tags for said in corpus.utterances],
        found.tags,
    )


def _judge(setting: Setting, params, seconds: float, history: list) -> Side:
    corpus = setting.judged
    found = _predictions(setting, params, corpus)
    intents = [said.intent for said in corpus.utterances]
    tags = [said.tags for said in corpus.utterances]
    scores = joint_scores(intents, found.intents, tags, found.tags)
    right = sum(a == b for a, b in zip(intents, found.intents, strict=True))
    accuracy = Estimate(
        scores.intent_accuracy, *wilson_interval(right, len(intents)), "Wilson, 95 %"
    )
    f1 = Estimate(scores.slot_f1, *bootstrap_slot_f1(tags, found.tags), "bootstrap, 95 %")
    return Side(scores, accuracy, f1, seconds, history)


def _step_times(setting: Setting, private: TrainStep) -> dict[str, float]:
    """Milliseconds per step on the very same draws, interleaved; compiling left out."""
    plan, steps = private.plan, {"private": private}
    if setting.config.baseline:
        steps["baseline"] = baseline_step(
            setting.network.loss,
            setting.preset.private.optimizer(),
            plan,
            microbatch=_microbatch(setting.config),
        )
    start = setting.network.init(jax.random.key(0))
    states = {name: step.init(start, key=0) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    turns = min(TIMED_STEPS, plan.steps)
    for draw in [draw for _, draw in zip(range(turns), plan.batches(seed=0), strict=False)]:
        for name, step in steps.items():
            batch = step.gather(draw, setting.train)
            jax.block_until_ready(batch.rows)
            began = time.perf_counter()
            states[name], metrics = step.update(states[name], draw, batch)
            jax.block_until_ready((states[name].params, metrics.loss))
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(found[1:] or found) for name, found in times.items()}


def _lines(sides):
    for name, runs in sides.items():
        for turn, side in enumerate(runs):
            for entry in side.history:
                yield {"training": name, "run": turn, **entry}


def _report(setting: Setting, plan: PrivacyPlan, sides, times) -> dict:
    config, preset, train = setting.config, setting.preset, setting.splits.train
    seeded = config.seed is not None
    results = {
        name: {
            "private": True,
            "epsilon": plan.epsilon(preset.delta) if name == "private" else None,
            "intent_accuracy": _over_runs([side.accuracy for side in runs]),
            "slot_f1": _over_runs([side.f1 for side in runs]),
            "step_ms": times[name],
            "train_seconds": float(np.mean([side.seconds for side in runs])),
            "runs": [side.scores._asdict() for side in runs],
        }
        for name, runs in sides.items()
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "marked_private": "results, notes on them, and metrics.jsonl",
        "data": {
            "name": train.name,
            "synthetic": train.synthetic,
            "source": train.source,
            "privacy_unit": train.privacy_unit,
            "train": len(train),
            "judged_on": config.on,
            "judged": len(setting.judged),
        },
        "model": {"network": preset.network, **preset.sizes, "buckets": preset.buckets},
        "training": {
            "private": dataclasses.asdict(preset.private),
            "baseline": dataclasses.asdict(preset.baseline),
            "pretraining": None
            if preset.pretraining is None
            else dataclasses.asdict(preset.pretraining),
            "strategy": config.strategy,
            "seed": config.seed,
        },
        "plan": plan.to_dict(),
        "plan_delta": preset.delta,
        "step_batch": plan.expected_batch,
        "results": results,
        "statement": plan.statement(preset.delta, reproducible=seeded),
        "notes": _notes(setting),
        "versions": versions(),
    }


def _over_runs(estimates) -> dict:
    found = estimates[0] if len(estimates) == 1 else mean_of([one.value for one in estimates])
    return found._asdict()


def _notes(setting: Setting) -> list[str]:
    notes = list(setting.preset.disclosures)
    repeats = setting.config.repeats
    if repeats > 1:
        notes.append(
            f"{repeats} private runs on one data set compose: publish one of them, or add their "
            "budgets"
        )
    return notes
