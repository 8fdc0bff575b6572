"""Trains, evaluates and times the private and the baseline arm of a run."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from trustml.models.finetuning import HEAD
from trustml.recipes.train import evaluation
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.train.folder import clean
from trustml.recipes.train.initial_weights import initial_weights
from trustml.recipes.train.reporting import make_report
from trustml.report import Report, render, to_json, write_json, write_text
from trustml.report.measured import Arms
from trustml.training import (
    FitResult,
    TrainStep,
    baseline_step,
    fit,
    patience,
)
from trustml.training.runs import interrupts
from trustml.training.runs.folder import RunFolder
from trustml.training.timing import time_steps


class Trainings(NamedTuple):
    """All trainings of one run: both arms, each as often as the settings ask for."""

    experiment: Experiment
    steps: dict[str, TrainStep]
    folder: Path
    quiet: bool
    accept_charge: bool = False
    resume: bool = False

    def carry_out(self) -> Report:
        """The report, after training, evaluating and timing both arms; it ends the run."""
        config = self.experiment.config
        files = RunFolder(self.folder)
        folders = files.repeats(config.repeats)
        arms: dict[str, list[evaluation.ArmResult]] = {}
        for turn, folder in enumerate(folders):
            folder.path.mkdir(mode=0o700, exist_ok=True)
            seed = None if config.seed is None else config.seed + turn
            head = self.experiment.start
            start = initial_weights(
                folder.start,
                self.experiment.task,
                self.experiment.model,
                seed or 0,
                quiet=self.quiet,
                given=None if head is None else {HEAD: head.head},
            )
            for name, step in self.steps.items():
                label = f"{name} {turn + 1}/{config.repeats}" if config.repeats > 1 else name
                result = self._fit(label, step, start, folder, seed)
                arm = evaluation.evaluate(self.experiment, self.experiment.objective(step), result)
                arms.setdefault(name, []).append(arm)
        report = make_report(
            self.experiment, Arms(**arms), self._time(), self.folder, folders[0].path
        )
        write_text(files.page, render([report]))
        write_json(files.report, to_json(report))
        clean(self.folder, repeats=config.repeats, save_baseline=config.save_baseline)
        return report

    def _fit(self, label: str, step: TrainStep, start: Any, folder: RunFolder, seed) -> FitResult:
        experiment, config = self.experiment, self.experiment.config
        objective = experiment.objective(step)
        shown = [metric.name for metric in experiment.task.scoring.metrics]
        patient = f"public_{shown[-1]}"  # the last metric is one where higher is better

        def evaluate(params):
            params = objective.model(params)
            scores = evaluation.utility(experiment, params, experiment.parts.valid)
            numbers = {f"valid_{name}": scores[name] for name in shown if name in scores}
            if experiment.generated is not None:
                generated = evaluation.utility(experiment, params, experiment.generated)
                numbers[patient] = generated[shown[-1]]
            return numbers

        with interrupts.after_a_step() as asked:
            return fit(
                step,
                objective.params(start),
                objective.units,
                evaluate=evaluate,
                evaluate_every=config.evaluate_every,
                stop=patience(patient, config.patience) if config.patience else None,
                pause=asked,
                out=folder.path if step.private else folder.baseline.path,
                resume=self.resume,
                accept_charge=self.accept_charge,
                source=experiment.parts.train.fingerprint,
                checkpoint_every=config.checkpoint_every,
                keep=True,
                seed=seed,
                delta=experiment.delta,
                progress=False if self.quiet else label,
            )

    def _time(self) -> Any:
        """Times of the private step, and of a plain one with the same batch size."""
        experiment, step = self.experiment, self.steps["private"]
        objective = experiment.private_objective
        plain = baseline_step(
            objective.loss,
            objective.optimizer(experiment.private.optimizer()),
            step.plan,
            physical_batch_size=step.physical_batch_size,
            trainable=objective.trainable,
            shorten=objective.shorten,
        )
        return time_steps(
            step,
            objective.params(experiment.task.network.init(jax.random.key(0))),
            objective.units,
            baseline=plain if experiment.config.baseline else None,
        )
