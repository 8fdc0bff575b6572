"""The report of `trustml train`, from the results of its trainings."""

import dataclasses
from pathlib import Path

import numpy as np

from trustml.formatting import plural
from trustml.models.tasks.units import PRESENT
from trustml.recipes.train.evaluation import ArmResult, attack_report, groups_report
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.train.word_models import pretraining_steps
from trustml.report import Report, clipping, learning, report_frame, with_data
from trustml.report.claim import Plan
from trustml.report.document import Data, Description, Metric, Training
from trustml.report.measured import ArmResults, Arms, ArmTiming, Estimate, Timing
from trustml.stats import mean_estimate
from trustml.training.runs.environment import versions
from trustml.training.runs.ledger import read_ledger, summarize
from trustml.training.timing import SideTiming


def describe(experiment: Experiment) -> Description:
    """The part of the report that is fixed before the run begins."""
    return Description(
        delta=experiment.delta,
        budget_epsilon=experiment.epsilon,
        plan=Plan(**experiment.plan.to_dict()),
        data=_data(experiment),
        model=experiment.model.describe(),
        training=_training(experiment),
        notes=(
            *experiment.decisions,
            *experiment.task.disclosures,
            f"settings: {experiment.tuned_on}",
            *_notes_on_units(experiment),
            *_notes_on_canaries(experiment),
        ),
    )


def _data(experiment: Experiment) -> Data:
    config, train = experiment.config, experiment.parts.train
    return Data(
        name=train.name,
        privacy_unit=experiment.unit,
        fingerprint=train.fingerprint,
        synthetic=train.synthetic,
        source=train.source,
        train=experiment.num_units,
        held_out=len(experiment.canaries.left_out),
        eval_split="valid" if config.eval_split == "valid" else "test",
        evaluated=len(experiment.evaluated),
        max_examples_per_unit=config.max_examples_per_unit,
        assumed_public=experiment.assumed_public or None,
    )


def _training(experiment: Experiment) -> Training:
    config = experiment.config
    return Training(
        private=dataclasses.asdict(experiment.private),
        baseline=dataclasses.asdict(experiment.baseline) if config.baseline else None,
        pretraining=pretraining_steps(experiment.model),
        strategy=config.strategy,
        physical_batch_size=experiment.settled.physical_batch_size,
    )


def _notes_on_units(experiment: Experiment) -> list[str]:
    """Notes on the privacy unit, and on the share of its text that is read."""
    train, most = experiment.parts.train, experiment.config.max_examples_per_unit
    notes = []
    if experiment.unit == train.unit and train.owner_kind is not None:
        notes.append(
            f"one {train.owner_kind} may have several {plural(train.unit)}: one {train.unit} is "
            f"protected, not the {train.owner_kind}; `--unit` protects that"
        )
    if PRESENT in experiment.units or experiment.task.kind == "lm":
        examples = "example" if most == 1 else "examples"
        notes.append(
            f"of one {experiment.unit} at most {most} {examples} of "
            f"{experiment.model.max_length} tokens are trained on; the rest is left out, in "
            "the baseline too"
        )
    return notes


def _notes_on_canaries(experiment: Experiment) -> list[str]:
    """Notes on the canaries of the audit in the training."""
    coins, units, notes = experiment.canaries, plural(experiment.unit), []
    if wrong := len(coins.wrong_members):
        notes.append(
            f"the training data hold {wrong} {units} with a wrong label, which the audit put "
            "there; both models were trained on them"
        )
    if number := len(coins.gradients):
        inside = coins.gradients.sum()
        notes.append(
            f"the private training carried {number} gradient canaries, of which {inside} "
            "took part as units of their own: they are counted in the plan, move no weight of the "
            "model, and have weights of their own in weights.safetensors, which `trustml export` "
            "leaves out"
        )
    return notes


def make_report(
    experiment: Experiment,
    arms: Arms[list[ArmResult]],
    timing: dict[str, SideTiming],
    folder: Path,
    first_run: Path,
) -> Report:
    """The complete report of a finished run.

    Args:
      experiment: The experiment of all trainings.
      arms: Results of the trainings, one entry per repeat.
      timing: Result of `time_steps`.
      folder: Folder of the run, which names it.
      first_run: Folder of the first private training, with its ledger.
    """
    first = arms.map(lambda results: results[0])
    described, plan = describe(experiment), experiment.plan
    report = report_frame(
        name=folder.resolve().name,
        summary=summarize(read_ledger(first_run)),
        plan=plan,
        delta=described.delta,
        status=_status(arms.private),
        repeats=experiment.config.repeats,
        budget_epsilon=described.budget_epsilon,
    )
    epsilons = {"private": report.privacy.epsilon}
    return dataclasses.replace(
        with_data(report, described.data),
        model=described.model,
        training=described.training,
        results=Arms(
            **{name: _results(runs, timing[name], epsilons.get(name)) for name, runs in arms}
        ),
        metrics=_metrics(experiment),
        attack=attack_report(experiment, first, described.delta),
        groups=groups_report(experiment, first),
        timing=Timing(plan.expected_batch, Arms(**timing).map(lambda arm: ArmTiming(*arm))),
        clipping=clipping(first.private.result.history, plan.to_dict()["clip_norm"]),
        learning=first.map(lambda arm: learning(arm.result.history)),
        notes=(*described.notes, *_notes(experiment, arms)),
        interruptions=_interruptions(arms) or None,
        versions=versions(),
    )


def _interruptions(arms: Arms[list[ArmResult]]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {note}" for name, runs in arms for run in runs for note in run.result.notes
    )


def _status(runs: list[ArmResult]):
    """How all private trainings ended; if they differ, one stopped early."""
    stopped = {run.result.stopped for run in runs}
    return stopped.pop() if len(stopped) == 1 else "stopped early"


def _metrics(experiment: Experiment) -> tuple[Metric, ...]:
    return tuple(
        Metric(one.name, one.label, one.percent, one.lower_is_better)
        for one in experiment.task.scoring.metrics
    )


def _results(runs: list[ArmResult], timing: SideTiming, epsilon: float | None) -> ArmResults:
    return ArmResults(
        epsilon,
        {name: _over_runs([run.metrics[name] for run in runs]) for name in runs[0].metrics},
        timing.step_ms,
        float(np.mean([run.result.seconds for run in runs])),
        tuple(run.scores for run in runs),
    )


def _over_runs(estimates: list[Estimate]) -> Estimate:
    if len(estimates) == 1:
        return estimates[0]
    return Estimate(*mean_estimate([estimate.value for estimate in estimates]))


def _notes(experiment: Experiment, arms: Arms[list[ArmResult]]) -> list[str]:
    notes, repeats = [], experiment.config.repeats
    if repeats > 1:
        notes.append(
            f"{repeats} private runs on one data set compose: publish one of them, or add their "
            "budgets"
        )
    if any(run.result.stopped == "stopped early" for run in arms.private):
        notes.append(
            "stopped early by scores on generated rows: when to stop was learned from the "
            "releases, so the claim stays that of all steps"
        )
    return notes
