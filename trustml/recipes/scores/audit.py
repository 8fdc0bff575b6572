"""An audit of membership scores: attacks, the epsilon that they refute, a verdict on a claim."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trustml.audit import attack_result, clopper_pearson
from trustml.audit.attacks import by_slice
from trustml.audit.attacks.slices import SlicedResult
from trustml.recipes.scores import page
from trustml.recipes.scores.attacks import attack_scores
from trustml.recipes.scores.bounds import Sample, main_bound, other_bounds
from trustml.recipes.scores.files import Scores, read_scores
from trustml.recipes.scores.results import (
    ADJACENCY,
    AttackResult,
    ClaimResult,
    ScoresAudit,
    SliceResults,
    Success,
)
from trustml.recipes.settings import REQUIRED, Settings, knob, settings
from trustml.report import write_json, write_text
from trustml.strict_json import finite

FILE = "audit.json"
_UNFAIR = 1e-6  # fair coins give what is refused less often


@settings
class AuditConfig(Settings):
    """Scores, what they were measured on, and a claim to refute."""

    file: Path = knob(REQUIRED, "scores, .csv or .npz", metavar="FILE", positional=True)
    lower_is_member: bool = knob(False, "`score` is lower for members, as losses are")
    one_run: bool = knob(False, "a fair coin per row decided, in one training run")
    delta: float = knob(1e-5, "delta of the promise under audit")
    confidence: float = knob(0.95, "confidence of every interval and of the verdict")
    fpr: tuple[float, ...] = knob(
        (0.01, 0.001), "false positive rates", metavar="RATES", commas=True
    )
    claimed_epsilon: float | None = knob(None, "a claim at --delta, to refute")
    by: str | None = knob(None, "column of slices, each audited too", metavar="COLUMN")

    @property
    def rates(self) -> tuple[float, ...]:
        """The false positive rates, each once."""
        return tuple(dict.fromkeys(self.fpr))

    def __post_init__(self):
        if not (0 <= self.delta < 1):
            raise ValueError(f"`--delta` must be in [0, 1), got {self.delta}.")
        if not (0 < self.confidence < 1):
            raise ValueError(
                f"`--confidence` must be in (0, 1), such as 0.95, got {self.confidence}."
            )
        claim = self.claimed_epsilon
        if claim is not None and not (0 <= claim < float("inf")):
            raise ValueError(f"`--claimed-epsilon` must be finite and 0 or more, got {claim}.")
        for rate in self.fpr:
            if not (0 < rate < 1):
                raise ValueError(f"`--fpr` must be rates in (0, 1), commas between, got {rate!r}.")


def audit_scores(config: AuditConfig, out: Path | None = None) -> ScoresAudit:
    r"""What the scores of any model show of its privacy, and whether that refutes a claim.

    Bounds that are compared with a claim hold all at once with the confidence asked for: each is
    tested at its error probability over their number (Bonferroni).

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> rows = [f"{score},{score > 60}" for score in range(120)]
    >>> _ = (folder / "runs.csv").write_text("\n".join(["score,member", *rows]))
    >>> audit = audit_scores(AuditConfig(file=folder / "runs.csv", claimed_epsilon=0.5))
    >>> audit.attacks["score"].whole.result.auc.value, audit.claim.refuted
    (1.0, True)

    Args:
      config: The scores, and what they were measured on.
      out: New or empty folder for audit.json and audit.html; by default nothing is written.

    Guarantee:
      If rows became members as `config.one_run` says, a true claim is refuted with probability at
      most 1 - confidence.

    Raises:
      ValueError: The file cannot be read, or its rows are no sample of members and of others.
      FileExistsError: `out` holds something.
    """
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    scores = read_scores(config.file, config.by)
    if config.one_run:
        _check_coins(scores.member)
    made, missing = attack_scores(scores, lower_is_member=config.lower_is_member)
    attacks = _attack_results(config, scores, made)
    claim = None if config.claimed_epsilon is None else _claim(config, attacks)
    audit = ScoresAudit(
        file=str(config.file),
        members=int(scores.member.sum()),
        nonmembers=int((~scores.member).sum()),
        one_run=config.one_run,
        delta=config.delta,
        confidence=config.confidence,
        claim=claim,
        attacks=attacks,
        missing=missing,
        notes=tuple(_notes(config, scores, claim)),
    )
    if out:
        _write(out, audit)
    return audit


def _check_coins(member: Bool[np.ndarray, " unit"]) -> None:
    """Refuses members too many or too few for fair coins."""
    members = int(member.sum())
    likely = clopper_pearson(members, len(member), 1 - _UNFAIR)
    if not (likely.low <= 0.5 <= likely.high):
        raise ValueError(
            f"`--one-run` needs rows that fair coins put in or left out, got {members} members of "
            f"{len(member)} rows, which fair coins give with a probability below {_UNFAIR:g}. Give "
            "the rows that coins chose, all of them."
        )


def _attack_results(
    config: AuditConfig, given: Scores, attacks: dict[str, Float[np.ndarray, " unit"]]
) -> dict[str, AttackResult]:
    sliced = {name: _by_slice(config, given, scores) for name, scores in attacks.items()}
    tested = len(attacks) + sum(len(one.slices) for one in sliced.values() if one)
    each = 1 - (1 - config.confidence) / tested if tested > 1 else config.confidence
    return {
        name: _attack_result(config, given, scores, sliced[name], each)
        for name, scores in attacks.items()
    }


def _by_slice(config: AuditConfig, given: Scores, scores) -> SlicedResult | None:
    if given.slices is None:
        return None
    names, indices = given.slices
    options: dict[str, Any] = {"rates": config.rates, "confidence": config.confidence}
    try:
        return by_slice(scores, given.member, indices, names=names, **options)
    except ValueError:  # all else is checked
        raise ValueError(
            "`--by` must name slices of which one has two members and two others, got "
            f"{len(names)} slices that have not."
        ) from None


def _attack_result(
    config: AuditConfig, given: Scores, scores, sliced: SlicedResult | None, confidence: float
) -> AttackResult:
    """One attack; `confidence` is that of each bound to compare with the claim."""
    how: dict[str, Any] = {"one_run": config.one_run, "delta": config.delta}

    def sample(units) -> Sample:
        return Sample(scores[units & given.member], scores[units & ~given.member])

    every = sample(np.ones(len(scores), bool))
    result = attack_result(*every, rates=config.rates, confidence=config.confidence)
    main = main_bound(every, confidence=confidence, **how)
    whole = Success(result, (main, *other_bounds(every, confidence=config.confidence, **how)))
    if sliced is None or given.slices is None:
        return AttackResult(whole, None)
    names, indices = given.slices
    slices = {
        name: Success(
            one, (main_bound(sample(indices == names.index(name)), confidence=confidence, **how),)
        )
        for name, one in sliced.slices.items()
    }
    worst = sliced.worst, sliced.worst_result
    return AttackResult(whole, SliceResults(slices, *worst, sliced.left_out))


def _claim(config: AuditConfig, attacks: dict[str, AttackResult]) -> ClaimResult:
    """The claim against the largest bound that holds for any training."""
    bounds = [
        (one.bound.epsilon, f"{name}{f', slice {part}' if part else ''}", one.bound.ceiling)
        for name, attack in attacks.items()
        for part, one in attack.compared().items()
    ]
    epsilon, by, _ = max(bounds)
    claimed = config.claimed_epsilon or 0.0
    return ClaimResult(
        epsilon=claimed,
        delta=config.delta,
        adjacency=ADJACENCY,
        refuted=epsilon > claimed,
        largest_bound=epsilon,
        by=by,
        largest_that_could_be_shown=max(ceiling for *_, ceiling in bounds),
    )


def _notes(config: AuditConfig, scores: Scores, claim: ClaimResult | None) -> list[str]:
    members, others = int(scores.member.sum()), int((~scores.member).sum())
    notes = []
    low = [rate for rate in config.rates if rate * others < 1 - 1e-9]
    if low:
        listed = ", ".join(f"{rate:g}" for rate in low)
        notes.append(
            f"A false positive rate of {listed} cannot be told with {others} non-members; the "
            f"smallest that can is {1 / others:.3g}."
        )
    if config.one_run and members == others:
        notes.append(
            "There are as many members as others. If that was arranged, the bounds are void."
        )
    if claim and claim.largest_that_could_be_shown <= claim.epsilon:
        notes.append(
            "So few rows could not refute the claim if no guess were wrong: the most that they "
            f"can show is {claim.largest_that_could_be_shown:.3g}."
        )
    if config.lower_is_member:
        notes.append("Thresholds of `score` are of minus the score: lower is like a member.")
    shadows = scores.shadows
    if shadows and shadows.shadows.min() >= 0 and shadows.shadows.max() <= 1:
        notes.append("`shadow_scores` look like probabilities; they should be log p - log(1 - p).")
    if scores.unread:
        notes.append(f"Not read: {', '.join(scores.unread)}.")
    return notes


def _write(out: Path, audit: ScoresAudit) -> None:
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(out / FILE, finite(audit.to_dict()), mode=0o600)
    write_text(out / page.FILE, page.page(audit), mode=0o600)
