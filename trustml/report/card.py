"""A model card in the format of Hugging Face: YAML for machines, then words."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from trustml.formatting import plural, round_up
from trustml.report.document import Data, Metric, Report
from trustml.report.measured import Estimate

# The task of each kind as Hugging Face names it: `pipeline_tag`, and in words.
_TASKS = {
    "classify": ("text-classification", "classes of texts"),
    "multilabel": ("text-classification", "several classes of texts"),
    "regression": ("text-classification", "numbers of texts"),
    "tabular": ("tabular-classification", "classes of records"),
    "tag": ("token-classification", "entities in texts"),
    "nlu": ("token-classification", "intents and slots"),
    "qa": ("question-answering", "answers in texts"),
    "lm": ("text-generation", "text"),
    "seq2seq": ("text2text-generation", "texts from texts"),
}


class ExportedFiles(NamedTuple):
    """What a card says of the files that it goes with.

    Attributes:
      task: Kind of task.
      library: What reads the files, as Hugging Face's `library_name`.
      files: Names of the files, and what they are.
      usage: Lines of Python that use them.
    """

    task: str
    library: str
    files: Sequence[tuple[str, str]]
    usage: str


def model_card(
    report: Report,
    exported: ExportedFiles,
    *,
    licence: str | None = None,
    utility: bool = True,
    fingerprint: str | None = None,
) -> str:
    """The README.md that goes with exported weights.

    Args:
      report: The run's report.
      exported: The files, and how they are used.
      licence: SPDX name for the front matter, if one is given.
      utility: Whether to print the scores: they were measured on people's rows without noise.
      fingerprint: Of the data, under a key that stays with the run: by a plain one, whoever guesses
        all rows could confirm the guess.
    """
    data, privacy = report.data, report.privacy
    plan = dataclasses.asdict(report.plan) if report.plan else {}
    scores = _scores(report) if utility else []
    parts = [
        f"# {report.run.name}",
        f"A model for {_TASKS[exported.task][1]}, {_trained(report)}",
        f"## Use\n\n```python\n{exported.usage}\n```",
        "## Data\n\n" + _data(data, fingerprint=fingerprint),
        "## What is promised\n\n" + _bullets(privacy.statement.splitlines()),
        "## Utility\n\n" + (_table(scores) if scores else "Not given."),
        "## Plan\n\n" + _bullets(f"{name}: {value}" for name, value in plan.items()),
        "## Files\n\n" + _bullets(f"`{name}`: {what}" for name, what in exported.files),
        "## Limits and assumptions\n\n" + _bullets(_limits(report, exported.task)),
    ]
    front = _front(report, exported, licence, scores)
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _trained(report: Report) -> str:
    data, privacy = report.data, report.privacy
    if report.plan is None:
        return f"trained across clients by trustml, without differential privacy, on {data.name}."
    claim = "none" if privacy.epsilon is None else round_up(privacy.epsilon, places=4)
    return (
        f"trained with differential privacy by trustml: epsilon {claim} at delta {privacy.delta}, "
        f"for one {privacy.unit} of {data.name}."
    )


def _front(report: Report, exported: ExportedFiles, licence: str | None, scores) -> dict[str, Any]:
    """What machines read. The data are named below `model-index` alone: they are not on the Hub."""
    privacy = report.privacy
    return {
        **({"license": licence} if licence else {}),
        "library_name": exported.library,
        "pipeline_tag": _TASKS[exported.task][0],
        "tags": ["differential-privacy", "jax", str(report.model.get("network", "model"))],
        "privacy": {
            "epsilon": privacy.epsilon,
            "delta": privacy.delta,
            "unit": privacy.unit,
            "adjacency": privacy.adjacency,
        },
        **({"model-index": [_index(report, exported.task, scores)]} if scores else {}),
    }


def _scores(report: Report) -> list[tuple[Metric, Estimate]]:
    if report.results is None:
        return []
    estimates = report.results.private.metrics
    return [(metric, estimates[metric.name]) for metric in report.metrics]


def _index(report: Report, kind: str, scores) -> dict[str, Any]:
    data = report.data
    metrics = [
        {"name": metric.label, "type": metric.name, "value": estimate.value}
        for metric, estimate in scores
    ]
    dataset = {"name": data.name, "type": data.name, "split": data.eval_split}
    task = dict(zip(("type", "name"), _TASKS[kind], strict=True))
    return {
        "name": report.run.name,
        "results": [{"task": task, "dataset": dataset, "metrics": metrics}],
    }


def _data(data: Data, *, fingerprint: str | None) -> str:
    kind = ", generated by the package: nobody's" if data.synthetic else ""
    units = plural(data.privacy_unit)
    trained = f"an unknown number of {units}" if data.train is None else f"{data.train} {units}"
    lines = [
        f"{data.name}{kind}. Trained on {trained}. Source: {data.source or 'not recorded'}. "
        "The data are not among the files."
    ]
    if fingerprint is not None:
        lines.append(
            f"Fingerprint of the training rows: `{fingerprint}` (HMAC-SHA256; the key stays with "
            "the run, so that only who has both can check it)."
        )
    return "\n\n".join(lines)


def _table(scores) -> str:
    lines = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for metric, estimate in scores:
        low, high = estimate.low, estimate.high
        between = "none" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        lines.append(f"| {metric.label} | {estimate.value:.4f} | {between} |")
    lines.append("")
    # How many there are is private where a unit may have several.
    lines.append(
        "Measured without noise on rows that are not in the training part: for their owners these "
        "figures are private quantities."
    )
    return "\n".join(lines)


def _limits(report: Report, task: str) -> list[str]:
    limits = [
        "the promise covers the weights and what is computed from them; it says nothing of the "
        "truth or fairness of a prediction"
    ]
    if task in ("classify", "multilabel", "tabular", "nlu"):
        limits.append("probabilities are the model's own: they are not calibrated")
    if length := report.model.get("max_length"):
        limits.append(f"training read the first {length} tokens of a text")
    return [*report.notes, *limits]


def _bullets(lines) -> str:
    return "\n".join(f"- {line}" for line in lines)
