"""What `trustml train` does: load, plan, train both, judge, report; or go on where it was ended."""

import contextlib
import dataclasses
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax

from trustml.clipping import clipped_grad
from trustml.clipping.gradient import TUNE
from trustml.plan import PrivacyPlan
from trustml.recipes.train import canaries
from trustml.recipes.train import evaluation as judging
from trustml.recipes.train.config import TrainConfig, read_resolved, to_yaml
from trustml.recipes.train.experiment import Experiment, make_setting, make_steps, private_plan
from trustml.recipes.train.reporting import describe, make_report
from trustml.recipes.train.resolve import with_task
from trustml.report import read_report, render, write_json, write_text
from trustml.training import (
    FitResult,
    TrainStep,
    baseline_step,
    fit,
    load_weights,
    patience,
    save_weights,
)
from trustml.training.runs import interrupts
from trustml.training.runs.files import locked
from trustml.training.runs.folder import RunFolder
from trustml.training.timing import time_steps


class Output(NamedTuple):
    """What the caller sees, which is no setting of the run."""

    quiet: bool = False
    accept_charge: bool = False


def new_run(
    config: TrainConfig, written: dict[str, Any], command: str, out: Path | None, output: Output
) -> tuple[dict, Path]:
    """Begins a run in a new folder and carries it out; returns its report and its folder."""
    folder = _new_folder(config, out)
    setting = tuned(make_setting(config, quiet=output.quiet), output)
    plan = private_plan(setting)
    carried = setting.carried()
    steps = make_steps(setting, carried, plan)
    folder = _make_folder(folder, config, automatic=out is None)
    with locked(folder), _resumable(folder):
        _describe_run(folder, setting, plan, written, command)
        return _carry_out(setting, carried, plan, steps, folder, output, resume=False), folder


def tuned(setting: Experiment, output: Output) -> Experiment:
    """The setting with a strategy in place of `tune`: a run that goes on must not choose again."""
    config = setting.config
    if config.strategy != TUNE:
        return setting
    grad = clipped_grad(
        setting.loss,
        clip_norm=setting.preset.private.clip_norm,
        strategy=TUNE,
        trainable=setting.trainable,
    )
    size = config.physical_batch_size if isinstance(config.physical_batch_size, int) else 256
    rows = {name: leaf[:size] for name, leaf in setting.train.items()}
    found = grad.tune(setting.problem.network.init(jax.random.key(0)), rows)
    if not output.quiet:
        times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in found.items())
        print(f"strategy {grad.strategy}, of {times}", file=sys.stderr)
    return setting._replace(config=dataclasses.replace(config, strategy=grad.strategy))


def _describe_run(folder: Path, setting: Experiment, plan, written, command: str) -> None:
    """Writes what a run is, before it begins."""
    config = setting.config
    write_text(RunFolder(folder).config, to_yaml(written, f"As written: {command}"))
    if config.audit or config.audit_rows:
        write_json(RunFolder(folder).canaries, setting.canaries.to_dict())
    if setting.problem.tokenizer is not None:
        setting.problem.tokenizer.save(RunFolder(folder).tokenizer)
    resolved = {
        "settings": config.to_dict(),
        "report": describe(setting, plan),
        "network": setting.problem.config,
        "whole": True,  # the last line: YAML cut off in between often reads well
    }
    _write_resolved(folder, resolved)


def _write_resolved(folder: Path, resolved: dict[str, Any]) -> None:
    head = (
        "What was asked for, and what follows from it; null is what the preset has. "
        "`trustml train --resume` reads it."
    )
    write_text(RunFolder(folder).resolved, to_yaml(resolved, head))


def resumed_run(folder: Path, changes: dict[str, Any], output: Output) -> tuple[dict, Path]:
    """Goes on with the run in `folder`, or shows what it found if it has ended.

    Args:
      folder: Of an earlier call.
      changes: Settings that may differ: where the data lie, how the step is computed.
      output: What the caller sees.

    Raises:
      ValueError: It is no run, or its settings are damaged.
    """
    path = RunFolder(folder).resolved
    if not path.exists():
        raise ValueError(
            f"`--resume` must name the folder of a run, got {folder}, which holds no {path.name}."
        )
    resolved = read_resolved(folder)
    config = TrainConfig.from_dict({**resolved["settings"], **changes}, str(path))
    if RunFolder(folder).report.exists():
        _clean(config, folder)
        if not output.quiet:
            print(f"{folder} has ended: no step is left", file=sys.stderr)
        return read_report(folder), folder
    tossed = canaries.read_canaries(folder) if config.audit or config.audit_rows else None
    setting = make_setting(config, tossed, quiet=output.quiet)
    # Not calibrated anew: another version of the accountant may find other last digits.
    plan = PrivacyPlan.from_dict(resolved["report"]["plan"])
    carried = setting.carried()
    steps = make_steps(setting, carried, plan)
    with locked(folder), _resumable(folder):
        if changes:  # or the next resume would change them back, and take another key
            _write_resolved(folder, {**resolved, "settings": config.to_dict()})
        return _carry_out(setting, carried, plan, steps, folder, output, resume=True), folder


@contextlib.contextmanager
def _resumable(folder: Path):
    """Says, of whatever ends a run, how to go on with it."""
    way = f"go on with: trustml train --resume {shlex.quote(str(folder))}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(way) from None
    except OSError as error:
        raise OSError(f"{str(error).rstrip('.')}; {way}") from error


def _carry_out(
    setting: Experiment, carried, plan, steps, folder: Path, output: Output, *, resume: bool
) -> dict:
    repeats, places = setting.config.repeats, RunFolder(folder).repeats(setting.config.repeats)
    sides: dict[str, list[judging.ArmResult]] = {}
    for turn, place in enumerate(places):
        place.path.mkdir(mode=0o700, exist_ok=True)
        seed = None if setting.config.seed is None else setting.config.seed + turn
        start = _start(setting, place, seed, output)
        for name, step in steps.items():
            label = f"{name} {turn + 1}/{repeats}" if repeats > 1 else name
            what = carried if step.private else setting.plain()
            result = _train(setting, what, label, step, start, place, seed, output, resume=resume)
            sides.setdefault(name, []).append(judging.judge(setting, what, plan, result))
    timing = _time(setting, carried, steps["private"])
    report = make_report(setting, plan, sides, timing, folder, places[0].path)
    write_text(RunFolder(folder).page, render([report]))
    write_json(RunFolder(folder).report, report)  # with it the run has ended
    _clean(setting.config, folder)
    return report


def _clean(config: TrainConfig, folder: Path) -> None:
    """Removes what only a run that goes on needs, the baseline's weights among it."""
    for place in RunFolder(folder).repeats(config.repeats):
        _remove(place.start)
        if not config.save_baseline:
            _remove(place.baseline.weights)
            _remove(place.baseline.checkpoints)


def _train(
    setting: Experiment, carried, label: str, step: TrainStep, start, place, seed, output, *, resume
) -> FitResult:
    config, preset = setting.config, setting.preset

    shown = [metric.name for metric in setting.problem.scoring.metrics]
    patient = f"public_{shown[-1]}"  # of words: higher is better

    def evaluate(params):
        params = carried.model(params)
        scores = judging.utility(setting, params, setting.parts.valid)
        found = {f"valid_{name}": scores[name] for name in shown if name in scores}
        if setting.public is not None:
            public = judging.utility(setting, params, setting.public)
            found[patient] = public[shown[-1]]
        return found

    with interrupts.after_a_step() as asked:
        return fit(
            step,
            carried.params(start),
            carried.units,
            evaluate=evaluate,
            evaluate_every=config.evaluate_every,
            stop=patience(patient, config.patience) if config.patience else None,
            pause=asked,
            out=place.path if step.private else place.baseline.path,
            resume=resume,
            accept_charge=output.accept_charge,
            source=setting.parts.train.fingerprint,
            checkpoint_every=config.checkpoint_every,
            keep=True,
            seed=seed,
            delta=preset.delta,
            progress=label if not output.quiet else False,
        )


def _start(setting: Experiment, place: RunFolder, seed: int | None, output: Output) -> Any:
    """Weights to start from. They are nobody's, and kept until the end: they may take a minute."""
    path, words = place.start, setting.preset.model.pretrains
    if path.exists():
        like = jax.eval_shape(lambda: setting.problem.network.init(jax.random.key(0)))
        return load_weights(path, like)
    if words is not None and not output.quiet:
        print(f"pretraining: {words}, a minute or two", file=sys.stderr)
    start = setting.problem.start(seed or 0)
    save_weights(path, start)
    return start


def _time(setting: Experiment, carried, step: TrainStep):
    """The private step, and a baseline's on the same rows: the baseline's own has fewer."""
    baseline = baseline_step(
        carried.loss,
        carried.optimizer(setting.preset.private.optimizer()),
        step.plan,
        physical_batch_size=step.physical_batch_size,
        trainable=carried.trainable,
        shorten=carried.shorten,
    )
    return time_steps(
        step,
        carried.params(setting.problem.network.init(jax.random.key(0))),
        carried.units,
        baseline=baseline if setting.config.baseline else None,
    )


def _new_folder(config: TrainConfig, out: Path | None) -> Path:
    """The folder for results: the one asked for, which must be new, or the next free one."""
    if out is None:
        return _next_folder(config)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"`--out` must be a folder, got the file {out}.")
    if RunFolder(out).holds_run():
        raise FileExistsError(
            f"`--out` must be a new folder, got {out}, which holds a run. Go on with it by "
            f"`trustml train --resume {out}`, or name another."
        )
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    return out


def _next_folder(config: TrainConfig) -> Path:
    number = 1
    _, data, _ = with_task(config)
    while Path("runs", f"{data}-{number}").exists():
        number += 1
    return Path("runs", f"{data}-{number}")


def _make_folder(folder: Path, config: TrainConfig, *, automatic: bool) -> Path:
    """Makes the folder, for its owner alone; a name that another process took meanwhile is left."""
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=not automatic)
            return folder
        except FileExistsError:
            folder = _next_folder(config)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
