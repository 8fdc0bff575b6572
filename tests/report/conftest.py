"""A report with everything in it, as a document, and what reads the page made of it."""

import html.parser

import pytest

from trustml import PrivacyPlan
from trustml.report import from_json
from trustml.report import render as render_reports

_HOSTILE = "\"'><script>alert(1)</script><img src=http://x.test onerror=alert(1)>&"
_MEASURED = ("results", "attack", "groups", "timing", "clipping", "learning", "ledger")
_METRICS = [
    {
        "name": "intent_accuracy",
        "label": "Intent accuracy",
        "percent": True,
        "lower_is_better": False,
    },
    {"name": "slot_f1", "label": "Slot F1", "percent": False, "lower_is_better": False},
]


def _estimate(value, half=0.03):
    return {"value": value, "low": value - half, "high": value + half, "interval": "Wilson, 95 %"}


def _scores(value):
    return {"intent_accuracy": _estimate(value), "slot_f1": _estimate(value + 0.05)}


def _attacked(auc, bound):
    rates = [index / 50 for index in range(51)]
    few = {"rate": 0.001, "tpr": None, "note": "too few: FPR 0.001 needs 1000 non-members"}
    lower = {"value": bound, "confidence": 0.95, "guesses": 100, "correct": 58, "method": "one run"}
    return {
        "auc": _estimate(auc),
        "tpr_at_fpr": [{"rate": 0.01, "tpr": _estimate(0.04), "note": ""}, few],
        "roc": {"fpr": rates, "tpr": [rate ** (1 - auc / 2) for rate in rates]},
        "epsilon_lower_bound": lower,
    }


def _grouped(name, by, private, evaluated):
    side = {"metrics": _scores(private), "attack_auc": _estimate(1 - private / 2)}
    baseline = {"metrics": _scores(0.93), "attack_auc": None}
    return {
        "by": by,
        "name": name,
        "evaluated": evaluated,
        "arms": {"private": side, "baseline": baseline},
    }


def _learned(start):
    evaluations = [{"step": 20, "valid_intent": 0.4}, {"step": 40, "valid_intent": 0.6}]
    return {"steps": [1, 20, 40], "loss": [start, 1.0, None], "evaluations": evaluations}


def _sample(name="snips-1", **privacy):
    speech = [
        _grouped("Coastal speech", "speech", 0.61, 18),
        _grouped("Plain", "speech", 0.74, 400),
    ]
    intents = [_grouped(f"Intent {index}", "intent", 0.5 + index / 50, 50) for index in range(14)]
    side = {"step_ms": 89.0, "train_seconds": 34.1, "runs": [{"intent_accuracy": 0.71}]}
    plan = PrivacyPlan(
        clip_norm=0.1,
        noise_multiplier=2.05,
        sample_rate=0.02,
        steps=200,
        expected_batch=256,
        num_units=12584,
        unit="utterance",
    )
    parts = {"clipped gradient": 70.1, "noise": 9.5, "optimizer": 3.0}
    base_parts = {"gradient": 60.0, "optimizer": 3.0}
    return {
        "schema_version": 3,
        "private": "results, attack: computed on people's rows without noise",
        "status": "complete",
        "made": "2026-11-24T20:30:00+00:00",
        "run": {"name": name, "id": "3f" * 16, "repeats": 1, "seeded": False},
        "data": {
            "name": "snips",
            "synthetic": False,
            "source": "text",
            "privacy_unit": "utterance",
            "eval_split": "test",
            "evaluated": 700,
            "fingerprint": "ab" * 32,
        },
        "model": {"network": "conv", "features": 128},
        "training": {
            "private": {"steps": 200},
            "baseline": None,
            "pretraining": None,
            "strategy": "auto",
            "physical_batch_size": 256,
        },
        "plan": plan.to_dict(),
        "privacy": {
            "epsilon": 2.9997,
            "delta": 1e-05,
            "budget_epsilon": 3.0,
            "adjacency": "add-or-remove-one",
            "unit": "utterance",
            "steps_planned": 200,
            "steps_charged": 200,
            "epsilon_by_steps": [[20, 0.92], [100, 2.1], [200, 2.9997]],
            "statement": "Promise: (2.9997, 1e-05)-differential privacy.\nVoid if: a row is two.",
            "segments": 1,
            "composed_runs": 1,
            **privacy,
        },
        "results": {
            "private": {"epsilon": 2.9997, "metrics": _scores(0.7129), **side},
            "baseline": {"epsilon": None, "metrics": _scores(0.9614), **side},
        },
        "metrics": _METRICS,
        "attack": {
            "how": "Loss threshold.",
            "confidence": 0.95,
            "members": 500,
            "nonmembers": 500,
            "arms": {"private": _attacked(0.52, 0.0431), "baseline": _attacked(0.68, 1.7329)},
        },
        "groups": speech + intents,
        "timing": {
            "batch": 2048,
            "arms": {
                "private": {"step_ms": 89.0, "parts_ms": parts},
                "baseline": {"step_ms": 70.0, "parts_ms": base_parts},
            },
        },
        "clipping": {
            "clip_norm": 0.1,
            "steps": [1, 2, 3],
            "clipped_share": [1.0, 0.9, 0.8],
            "mean_norm": [0.9, 0.5, None],
            "dropped": 0,
        },
        "learning": {"private": _learned(2.2), "baseline": _learned(1.9)},
        "ledger": {
            "file": "ledger.jsonl",
            "head": "cd" * 32,
            "segments": [{"number": 0, "start": 0, "charged": 200, "reason": "new run"}],
        },
        "notes": ["token ids from a public word list"],
        "versions": {"jax": "0.10.2", "device": "cpu: cpu"},
    }


class _Page(html.parser.HTMLParser):
    """All tags with their attributes, and the text outside the style sheet."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def _spoil(value):
    """Every text made hostile, but choices and the names that join metrics to their values."""
    if isinstance(value, dict):
        kept = {"status", "adjacency", *({"name"} if "percent" in value else ())}
        return {key: text if key in kept else _spoil(text) for key, text in value.items()}
    if isinstance(value, list):
        return [_spoil(one) for one in value]
    return value + _HOSTILE if isinstance(value, str) else value


def _unfinished():
    report = _sample(steps_charged=100, epsilon=2.1)
    return {**report, "status": "unfinished", **dict.fromkeys(_MEASURED)}


def _several():
    reports = [_sample(f"snips-{index}", epsilon=float(index)) for index in (1, 3, 8)]
    for index, report in enumerate(reports):
        report["results"]["private"]["metrics"] = _scores(0.6 + index / 10)
    return reports


@pytest.fixture
def sample():
    """Makes a finished report; its options change what it claims."""
    return _sample


@pytest.fixture
def unfinished():
    """Makes the report of a run that goes on."""
    return _unfinished


@pytest.fixture
def several():
    """Makes three reports on the same data."""
    return _several


@pytest.fixture
def spoil():
    """Makes every text of a document hostile."""
    return _spoil


@pytest.fixture
def hostile():
    """What `spoil` adds."""
    return _HOSTILE


@pytest.fixture
def render():
    """Makes the page of reports that are given as documents."""

    def page(documents, **options):
        return render_reports([from_json(one) for one in documents], **options)

    return page


@pytest.fixture
def parse():
    """Reads HTML: all tags with their attributes, and the text."""
    return _Page


@pytest.fixture
def pages(request):
    """The documents of one page, by the test's parameter."""
    made = {
        "one": lambda: [_sample()],
        "unfinished": lambda: [_unfinished()],
        "several": _several,
        "hostile": lambda: [_spoil(_sample())],
    }
    return made[request.param]()
