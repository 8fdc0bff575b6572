"""The report's page: whole, inert, readable; its words and figures by hand."""

import html
import html.parser
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest

from trustml import PrivacyPlan
from trustml.formatting import round_down, round_up
from trustml.report import digits, from_json, load_schema, make_schema, to_json, words
from trustml.report import render as render_reports
from trustml.report import sections as section_table
from trustml.report.charts import (
    COLOURS,
    Axis,
    Row,
    Series,
    bar_chart,
    dot_chart,
    line_chart,
    to_svg,
)
from trustml.report.document import SCHEMA_VERSION
from trustml.report.measured import Estimate
from trustml.report.summary_table import summary_table

HOSTILE = "\"'><script>alert(1)</script><img src=http://x.test onerror=alert(1)>&"
MEASURED = ("results", "attack", "groups", "timing", "clipping", "learning", "ledger")
METRICS = [
    {
        "name": "intent_accuracy",
        "label": "Intent accuracy",
        "percent": True,
        "lower_is_better": False,
    },
    {"name": "slot_f1", "label": "Slot F1", "percent": False, "lower_is_better": False},
]


def render(documents, **options):
    """The page of reports, given as documents."""
    return render_reports([from_json(one) for one in documents], **options)


def estimate(value, half=0.03):
    return {"value": value, "low": value - half, "high": value + half, "interval": "Wilson, 95 %"}


def scores(value):
    return {"intent_accuracy": estimate(value), "slot_f1": estimate(value + 0.05)}


def attacked(auc, bound):
    rates = [index / 50 for index in range(51)]
    few = {"rate": 0.001, "tpr": None, "note": "too few: FPR 0.001 needs 1000 non-members"}
    lower = {"value": bound, "confidence": 0.95, "guesses": 100, "correct": 58, "method": "one run"}
    return {
        "auc": estimate(auc),
        "tpr_at_fpr": [{"rate": 0.01, "tpr": estimate(0.04), "note": ""}, few],
        "roc": {"fpr": rates, "tpr": [rate ** (1 - auc / 2) for rate in rates]},
        "epsilon_lower_bound": lower,
    }


def grouped(name, by, private, judged):
    side = {"metrics": scores(private), "attack_auc": estimate(1 - private / 2)}
    baseline = {"metrics": scores(0.93), "attack_auc": None}
    return {
        "by": by,
        "name": name,
        "evaluated": judged,
        "arms": {"private": side, "baseline": baseline},
    }


def learned(start):
    evaluations = [{"step": 20, "valid_intent": 0.4}, {"step": 40, "valid_intent": 0.6}]
    return {"steps": [1, 20, 40], "loss": [start, 1.0, None], "evaluations": evaluations}


def sample(name="snips-1", **privacy):
    speech = [grouped("Coastal speech", "speech", 0.61, 18), grouped("Plain", "speech", 0.74, 400)]
    intents = [grouped(f"Intent {index}", "intent", 0.5 + index / 50, 50) for index in range(14)]
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
            "private": {"epsilon": 2.9997, "metrics": scores(0.7129), **side},
            "baseline": {"epsilon": None, "metrics": scores(0.9614), **side},
        },
        "metrics": METRICS,
        "attack": {
            "how": "Loss threshold.",
            "confidence": 0.95,
            "members": 500,
            "nonmembers": 500,
            "arms": {"private": attacked(0.52, 0.0431), "baseline": attacked(0.68, 1.7329)},
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
        "learning": {"private": learned(2.2), "baseline": learned(1.9)},
        "ledger": {
            "file": "ledger.jsonl",
            "head": "cd" * 32,
            "segments": [{"number": 0, "start": 0, "charged": 200, "reason": "new run"}],
        },
        "notes": ["token ids from a public word list"],
        "versions": {"jax": "0.10.2", "device": "cpu: cpu"},
    }


def unfinished():
    report = sample(steps_charged=100, epsilon=2.1)
    return {**report, "status": "unfinished", **dict.fromkeys(MEASURED)}


def several():
    reports = [sample(f"snips-{index}", epsilon=float(index)) for index in (1, 3, 8)]
    for index, report in enumerate(reports):
        report["results"]["private"]["metrics"] = scores(0.6 + index / 10)
    return reports


class Page(html.parser.HTMLParser):
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


def spoil(value):
    """Every text made hostile, but choices and the names that join metrics to their values."""
    if isinstance(value, dict):
        kept = {"status", "adjacency", *({"name"} if "percent" in value else ())}
        return {key: text if key in kept else spoil(text) for key, text in value.items()}
    if isinstance(value, list):
        return [spoil(one) for one in value]
    return value + HOSTILE if isinstance(value, str) else value


PAGES = {
    "one": lambda: [sample()],
    "unfinished": lambda: [unfinished()],
    "several": several,
    "hostile": lambda: [spoil(sample())],
}


@pytest.mark.parametrize("report", [sample(), unfinished(), *several(), sample(epsilon=None)])
def test_the_schema_knows_the_samples(report):
    jsonschema = pytest.importorskip("jsonschema")
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(json.loads(json.dumps(report, allow_nan=False))))
    assert to_json(from_json(report)) == report


def test_the_schema_is_generated_from_the_dataclasses():
    assert load_schema() == make_schema()


def test_the_schema_refuses_a_wrong_kind_and_describes_every_field():
    jsonschema = pytest.importorskip("jsonschema")
    report = sample()
    report["attack"]["arms"]["private"]["auc"] = 0.5
    assert list(jsonschema.Draft202012Validator(load_schema()).iter_errors(report))

    def undescribed(field, name):
        if "description" not in field and "$ref" not in field:
            yield name
        for key, inner in field.get("properties", {}).items():
            yield from undescribed(inner, f"{name}.{key}")

    schema = load_schema()
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    defined = [name for key, one in schema["$defs"].items() for name in undescribed(one, key)]
    assert [*undescribed(schema, ""), *defined] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda r: [],
            "`report` must be a JSON object, got list",
            marks=pytest.mark.kinds,
        ),
        (lambda r: r.pop("schema_version") and r, "`schema_version` must be 3, got none"),
        (lambda r: {**r, "schema_version": 1}, r"`schema_version` must be 3, got 1\..*wrote it"),
        (lambda r: r.pop("plan") and r, "`report` must hold .*got no 'plan'"),
        (lambda r: {**r, "notes": "x"}, "`report.notes` must be a JSON array, got str"),
        (lambda r: {**r, "privacy": {"delta": 1.0}}, "`privacy` must hold .*got no 'epsilon'"),
        (
            lambda r: {**r, "privacy": {**r["privacy"], "delta": "small"}},
            "`privacy.delta` must be a JSON number, got str",
        ),
        (
            lambda r: {**r, "run": {**r["run"], "repeats": -1}},
            "`run.repeats`: .*greater than or equal to 0, got -1",
        ),
        (
            lambda r: {**r, "attack": {**r["attack"], "arms": {}}},
            "`attack.arms` must hold 'private', got no 'private'",
        ),
    ],
)
def test_what_is_no_report_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        render([change(sample())])
    with pytest.raises(ValueError, match="`reports` must hold at least one"):
        render([])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_runs_nothing(name):
    page = render(PAGES[name]())
    found = Page(page)
    assert not found.open
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "use"}
    for tag, attributes in found.tags:
        assert not {"src", "srcset", "style", "action", "data", "xlink:href"} & attributes.keys(), (
            tag
        )
        assert not [key for key in attributes if key.startswith("on")], tag
        assert attributes.get("href", "#").startswith("#"), tag
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_hostile_text_is_shown_as_it_is():
    page = render(PAGES["hostile"](), composed=1.0)
    assert "<script" not in page
    assert "<img" not in page
    text = Page(page).text
    for said in ("snips-1", "Coastal speech", "Loss threshold.", "new run"):
        assert said + HOSTILE in text


@pytest.mark.parametrize("name", PAGES)
def test_anchors_lead_somewhere_and_are_given_once(name):
    tags = Page(render(PAGES[name]())).tags
    given = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(given) == len(set(given))
    wanted = {attributes["href"][1:] for _, attributes in tags if "href" in attributes}
    assert wanted <= set(given)


@pytest.mark.parametrize("name", PAGES)
def test_every_plot_is_well_formed_and_named(name):
    drawn = re.findall("<svg.*?</svg>", render(PAGES[name]()), re.DOTALL)
    assert drawn
    for text in drawn:
        svg = ElementTree.fromstring(text)
        assert svg.get("viewBox")
        assert svg.get("role") == "img"
        assert svg.find("title").text
        assert not re.search(r"\b(nan|inf)\b", re.sub("<title>.*?</title>", "", text))


HEADINGS = (
    "In plain words",
    "Claimed epsilon over the steps",
    "Utility against the baseline",
    "Membership attack",
    "By group",
    "Where the time went",
    "Clipping",
    "Learning curves",
    "Plan, versions, ledger and limits",
)


def sections(report):
    page = render([report])
    found = re.findall(r"<section id=.*?><h2>(.*?)</h2>(.*?)</section>", page, re.DOTALL)
    assert tuple(heading for heading, _ in found) == HEADINGS
    return dict(found)


def test_every_file_of_sections_is_in_the_table():
    folder = Path(section_table.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "section"}
    assert files == set(section_table._FILES)
    anchors = [section.anchor for section in section_table.SECTIONS]
    assert len(anchors) == len(set(anchors))


def test_each_section_shows_its_figures():
    found = {heading: Page(body).text for heading, body in sections(sample()).items()}
    shown = dict.fromkeys(HEADINGS, ())
    shown["In plain words"] = ("95.3%", "20.1%", "Promise (2.9997, 1e-05)", "What voids it")
    shown["Claimed epsilon over the steps"] = (
        "budget",
        "200 of 200 steps",
        "at most 3.00, at delta 1e-05",
    )
    shown["Utility against the baseline"] = ("71.3% (68.3 to 74.3)", "-24.9 points", "Wilson")
    shown["Membership attack"] = (
        "ruled out by the claim",
        "0.520",
        "too few: FPR",
        "0.0431",
        "1.73",
    )
    shown["By group"] = ("Coastal speech: worst off", "few rows", "The 12 worst off of 14")
    shown["Where the time went"] = ("1.27 times", "clipped gradient", "6.4")
    shown["Clipping"] = ("Private:", "clipping norm 0.1")
    shown["Learning curves"] = ("Private:", "valid intent")
    shown["Plan, versions, ledger and limits"] = ("public word list", "0.10.2", "new run", "2.05")
    for heading, texts in shown.items():
        for text in texts:
            assert text in found[heading], (heading, text)


def test_an_unfinished_run_says_what_is_not_there_and_draws_nothing_empty():
    found = sections(unfinished())
    for heading in HEADINGS[2:8]:
        assert "Not there yet" in found[heading]
        assert "<svg" not in found[heading]
    assert "planned, not charged" in found["Claimed epsilon over the steps"]
    assert "100 of 200 steps are charged, and the claim is about them" in render([unfinished()])


def test_a_run_that_stopped_early_claims_all_planned_steps():
    report = {**sample(steps_charged=100), "status": "stopped early", "results": None}
    page = Page(render([report])).text
    assert "100 of 200 steps are charged. The claim stays that of all planned steps" in page
    assert "at most 3.00" in page
    assert "The run was stopped before it was measured" in page


def test_a_frame_of_a_run_with_little_in_it_is_shown():
    report = {**unfinished(), "model": {}, "training": None, "versions": {}, "metrics": []}
    report["data"] = {"name": "unknown", "privacy_unit": "utterance", "fingerprint": "ab"}
    report["privacy"].update(steps_charged=0, epsilon=0.0)
    assert "at most 0.00" in render([report])
    assert "unknown" in render([report, report])


@pytest.mark.parametrize("key", MEASURED)
def test_any_part_may_be_missing(key):
    report = sample()
    del report[key]
    assert "Not there: " in render([report])


@pytest.mark.parametrize("part", ["results", "attack", "timing"])
def test_a_run_without_a_baseline_is_shown(part):
    report = sample()
    sides = report[part].get("arms", report[part])
    sides["baseline"] = None
    assert "<svg" in sections(report)["By group"]


def test_several_runs_are_compared_and_their_budgets_added():
    page = Page(render(several()))
    assert "who publishes all spends epsilon at most 12.0 at delta 3.00e-5" in page.text
    assert "All together: epsilon at most 9.13" in Page(render(several(), composed=9.1234)).text
    assert page.text.count("In plain words") == 3
    apart = several()
    for index, report in enumerate(apart):
        report["data"]["fingerprint"] = str(index)
    assert "add up" not in Page(render(apart)).text.split("Each run")[0]


def test_what_voids_or_refutes_the_claim_stands_above_all():
    def boxes(report):
        return Page("".join(re.findall('<p class="box danger".*?</p>', render([report])))).text

    assert boxes(sample()) == ""
    assert "Nothing is promised" in boxes(sample(epsilon=None))
    assert "contradicts the claim" in boxes(sample(epsilon=0.0430))
    seeded = sample()
    seeded["run"]["seeded"] = True
    assert "subtract the noise" in boxes(seeded)


def told(report):
    return {
        topic.heading: " ".join(topic.sentences) for topic in words.plain_words(from_json(report))
    }


def test_the_betting_figures_by_hand():
    # Odds of 9 to 1 after even odds, and at most nine times as many members as false alarms.
    found = told(sample(epsilon=math.log(9) - 1e-12, delta=0.0))
    bet = found["What an epsilon of 2.20 means as a bet"]
    assert "at most 90.0% sure" in bet
    assert "at most 9.00% of those who did" in bet
    assert words.most_certain(math.log(3), 0.04) == pytest.approx(3.04 / 4)
    assert words.most_found(math.log(3), 0.1, 0.01) == pytest.approx(0.13)
    assert words.most_found(math.log(3), 0.0, 0.5) == pytest.approx(1 - 0.5 / 3)
    assert words.most_found(5000.0, 0.0, 0.5) == words.most_certain(5000.0, 0.0) == 1.0


def test_the_words_follow_the_report():
    assert "left out" in told(sample())["What is promised"]
    replaced = told(sample(adjacency="replace-one"))
    assert "replaced by any other utterance" in replaced["What is promised"]
    assert "two candidates" in replaced["What an epsilon of 3.00 means as a bet"]
    nothing = told(sample(epsilon=None))
    assert nothing["What is promised"].startswith("Nothing is promised")
    assert "not for one person" in told(sample())["Whom it protects"]
    assert "not for one person" not in told(sample(unit="user"))["Whom it protects"]
    repeated = sample(composed_runs=3)
    assert "one of 3 runs" in render([repeated])
    assert "at most 9.00, at 3 times the delta" in render([repeated])


@pytest.mark.parametrize("value", [2.9997, 2.1, 0.1, 1e-7, 123.4, 9.999, 0.0, 7e22])
def test_a_claim_is_rounded_up_and_a_lower_bound_down(value):
    up, down = float(round_up(value)), float(round_down(value))
    assert down <= value <= up
    assert up - down <= 0.0101 * value
    share = min(1.0, value / 100)
    assert float(digits.share_up(share).removesuffix("%")) >= 100 * share - 1e-9


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [None, math.nan, math.inf],
        [0.0, 0.0, 0.0],
        [1e-320, 2e-320],
        [1e99, -1e99],
        [1e300, 1.0],
        [1e15, 1e15 + 1],
        [5.0, None, 7.0],
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_odd_data_do_not_break_a_plot(values, log):
    points = list(enumerate(values))
    series = [Series("odd", points, "private", [(v, v) for v in values])]
    rows = [Row("odd", "", [("odd", Estimate(v, v, v, ""), "private")]) for v in values]
    figures = [
        line_chart(series, Axis("x", log=log), Axis("y", log=log)),
        line_chart([series[0]._replace(marks=True)], Axis("x", log=log), Axis("y", log=log)),
        dot_chart(rows, Axis("x", log=log)),
    ]
    expected = any(v is not None and abs(v) < 1e100 for v in values)
    for figure in figures:
        assert (figure is not None) == expected
        if figure is not None:
            svg = ElementTree.fromstring(to_svg(figure, "odd"))
            assert not re.search(r"\b(nan|inf)\b", ElementTree.tostring(svg, encoding="unicode"))


def test_ticks_are_round_and_long_series_are_thinned():
    points = [(step, math.sin(step)) for step in range(100_000)]
    figure = line_chart([Series("a", points, "private")], Axis("Step", low=0.0), Axis("Loss"))
    drawn = to_svg(figure, "long")
    assert len(drawn) < 100_000
    ticks = [text.text for text in ElementTree.fromstring(drawn).iter("text")]
    assert {"0", "50k", "100k", "-1", "-0.5", "0.5", "1"} <= set(ticks)


def test_a_curve_keeps_the_corners_that_a_logarithmic_axis_shows():
    rates = [index / 2000 for index in range(2001)]
    curve = [(rate, rate if index % 2 else max(rate - 1e-3, 0)) for index, rate in enumerate(rates)]
    axis = Axis("Rate", log=True, low=1e-3, high=1.0)
    (line,) = line_chart([Series("a", curve, "private")], axis, axis).axes[0].lines
    assert set(rates[2:60]) <= {*line.get_xdata()}  # further than a pixel apart
    assert len(line.get_xdata()) < 1000


@pytest.mark.parametrize(
    "text", ["$x_{", "back\\slash $a$", "a\nb\x00c", "\u4e2d\u6587", "_under", HOSTILE]
)
def test_any_text_is_drawn_as_it_is(text):
    estimate = Estimate(0.5, 0.4, 0.6, "Wilson, 95 %")
    parts = [("private", estimate, "private"), ("baseline", None, "baseline")]
    svg = to_svg(dot_chart([Row(text[:20], "n = 1", parts)], Axis("Share")), text)
    shown = "".join(one if one.isprintable() else " " for one in text[:20])
    assert shown in [one.text for one in ElementTree.fromstring(svg).iter("text")]


def test_a_figure_is_the_same_each_time_and_free_of_names():
    def draw():
        bars = [Row("private step", "9 ms", [("noise", 4.0, "part-2"), ("rest", 5.0, "part-rest")])]
        dots = [Row("F1", "", [("private", Estimate(0.5, 0.4, 0.6, ""), "private")])]
        return "".join(
            to_svg(figure, "figure")
            for figure in (bar_chart(bars, Axis("Milliseconds")), dot_chart(dots, Axis("F1")))
        )

    drawn = draw()
    assert drawn == draw()
    tags = Page(drawn).tags
    assert {tag for tag, _ in tags} == {"svg", "title", "g", "path", "text"}
    keys = {key for _, attributes in tags for key in attributes}
    assert not keys & {"id", "style", "width", "height", "clip-path", "href"}
    # Every colour is one of the style sheet's, which knows light and dark.
    colours = set(re.findall(r'(?:fill|stroke)="(.*?)"', drawn)) - {"none"}
    names = ("rule", "soft", "ink", "paper", "private", "part-2", "part-rest", "on-part")
    assert colours == {f"var(--{name})" for name in names}
    style = re.search("<style>(.*?)</style>", render([sample()]), re.DOTALL)[1]
    light, dark = (set(re.findall("--([a-z0-9-]+):", part)) for part in style.split("@media")[:2])
    assert set(COLOURS) <= light
    assert set(COLOURS) <= dark


def test_a_figure_can_be_shown_by_itself_and_leaves_no_state():
    code = """if True:
        import sys, trustml.cli.main
        from trustml.report.charts import Axis, Series, line_chart, to_svg
        assert not {"matplotlib", "jinja2"} & set(sys.modules)  # who draws nothing waits for none
        import matplotlib
        settings = "font.size", "text.parse_math", "svg.fonttype"
        before = [matplotlib.rcParams[name] for name in settings]
        figure = line_chart([Series("a", [(1, 2), (2, 3)], "private")], Axis("Step"), Axis("Loss"))
        to_svg(figure, "loss")
        assert figure.axes[0].get_xlabel() == "Step"
        assert [matplotlib.rcParams[name] for name in settings] == before
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_page_is_reproducible():
    assert render([sample()]) == render([sample()])


def framed(folder, frames):
    """The pages side by side, each in a window of its own width: a phone's is below a browser's."""
    body = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(page)}">'
        "</iframe>"
        for width, page in frames
    )
    measure = (
        "onload = () => document.title = [...document.querySelectorAll('iframe')].map("
        "frame => frame.contentDocument.documentElement.scrollWidth).join(' ')"
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f'<body style="margin:0">{body}<script>{measure}</script></body>')
    return wrapper


def test_no_page_scrolls_sideways_on_any_screen(tmp_path, browse):
    # The measure must see what is too wide.
    wide = '<!DOCTYPE html><body style="margin:0"><div style="width:2000px">wide</div>'
    long = spoil(sample())
    long["run"]["name"] = long["groups"][0]["name"] = "word" * 60
    pages = [render([sample()]), render(several(), composed=9.0), render([long])]
    frames = [(width, page) for page in pages for width in (360, 800, 1400)]
    result = browse(framed(tmp_path, [*frames, (360, wide)]), "--dump-dom")
    found = [int(text) for text in re.search("<title>(.*?)</title>", result.stdout)[1].split()]
    assert found == [*(width for width, _ in frames), 2000]


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_is_drawn(tmp_path, browse, width):
    shot, wrapper = tmp_path / "shot.png", framed(tmp_path, [(width, render([sample()]))])
    browse(wrapper, f"--window-size={width},900", f"--screenshot={shot}")
    data, pixels, at = shot.read_bytes(), b"", 8
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        pixels += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    drawn = zlib.decompress(pixels)
    # Filtered rows of one colour are zeros; text and lines are not.
    assert sum(byte != 0 for byte in drawn) > 0.02 * len(drawn)


@pytest.mark.parametrize(
    ("epsilon", "shown"), [(2.99961, "3.000"), (3.0, "3.000"), (3.0004, "3.001")]
)
def test_the_table_of_a_run_rounds_epsilon_up(epsilon, shown):
    report = sample()
    report["results"]["private"]["epsilon"] = epsilon
    title, head, rows = summary_table(from_json(report))
    assert "evaluated on 700 rows of the test part" in title
    assert head == ["training", "epsilon", "audited", "Intent accuracy, %", "Slot F1", "step"]
    assert rows[0][:4] == ["private", shown, "0.04", "71.3 [68.3, 74.3]"]
    assert rows[1][:2] == ["baseline", "none"]


def test_a_run_without_results_has_no_table():
    with pytest.raises(ValueError, match="finished run, got unfinished"):
        summary_table(from_json(unfinished()))
