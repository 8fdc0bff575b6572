"""The report's page: whole, inert, readable on any screen."""

import html
import re
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest

from trustml.report import sections as section_table

KINDS = ("one", "unfinished", "several", "hostile")
MEASURED = ("results", "attack", "groups", "timing", "clipping", "learning", "ledger")
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


@pytest.fixture
def sections(render):
    """Reads the sections of a report's page, by their headings."""

    def read(report):
        page = render([report])
        found = re.findall(r"<section id=.*?><h2>(.*?)</h2>(.*?)</section>", page, re.DOTALL)
        assert tuple(heading for heading, _ in found) == HEADINGS
        return dict(found)

    return read


@pytest.mark.parametrize("pages", KINDS, indirect=True)
def test_a_page_loads_nothing_and_runs_nothing(render, parse, pages):
    page = render(pages)
    found = parse(page)
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


def test_hostile_text_is_shown_as_it_is(sample, spoil, render, parse, hostile):
    page = render([spoil(sample())], composed=1.0)
    assert "<script" not in page
    assert "<img" not in page
    text = parse(page).text
    for said in ("snips-1", "Coastal speech", "Loss threshold.", "new run"):
        assert said + hostile in text


@pytest.mark.parametrize("pages", KINDS, indirect=True)
def test_anchors_lead_somewhere_and_are_given_once(render, parse, pages):
    tags = parse(render(pages)).tags
    given = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(given) == len(set(given))
    wanted = {attributes["href"][1:] for _, attributes in tags if "href" in attributes}
    assert wanted <= set(given)


@pytest.mark.parametrize("pages", KINDS, indirect=True)
def test_every_plot_is_well_formed_and_named(render, pages):
    drawn = re.findall("<svg.*?</svg>", render(pages), re.DOTALL)
    assert drawn
    for text in drawn:
        svg = ElementTree.fromstring(text)
        assert svg.get("viewBox")
        assert svg.get("role") == "img"
        assert svg.find("title").text
        assert not re.search(r"\b(nan|inf)\b", re.sub("<title>.*?</title>", "", text))


def test_every_file_of_sections_is_in_the_table():
    folder = Path(section_table.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "section"}
    assert files == set(section_table._FILES)
    anchors = [section.anchor for section in section_table.SECTIONS]
    assert len(anchors) == len(set(anchors))


def test_each_section_shows_its_figures(sample, parse, sections):
    found = {heading: parse(body).text for heading, body in sections(sample()).items()}
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


def test_an_unfinished_run_says_what_is_missing_and_draws_nothing_empty(
    unfinished, render, sections
):
    found = sections(unfinished())
    for heading in HEADINGS[2:8]:
        assert "Not there yet" in found[heading]
        assert "<svg" not in found[heading]
    assert "planned, not charged" in found["Claimed epsilon over the steps"]
    assert "100 of 200 steps are charged, and the claim is about them" in render([unfinished()])


def test_a_score_without_its_step_is_left_out(sample, render):
    report = sample()
    assert "valid intent over steps" in render([report])
    for arm in report["learning"].values():
        for entry in arm["evaluations"]:
            del entry["step"]
    assert "valid intent over steps" not in render([report])


def test_a_run_that_stopped_early_claims_all_planned_steps(sample, render, parse):
    report = {**sample(steps_charged=100), "status": "stopped early", "results": None}
    page = parse(render([report])).text
    assert "100 of 200 steps are charged. The claim stays that of all planned steps" in page
    assert "at most 3.00" in page
    assert "The run was stopped before it was measured" in page


def test_a_frame_of_a_run_with_little_in_it_is_shown(unfinished, render):
    report = {**unfinished(), "model": {}, "training": None, "versions": {}, "metrics": []}
    report["data"] = {"name": "unknown", "privacy_unit": "utterance", "fingerprint": "ab"}
    report["privacy"].update(steps_charged=0, epsilon=0.0)
    assert "at most 0.00" in render([report])
    assert "unknown" in render([report, report])


@pytest.mark.parametrize("key", MEASURED)
def test_any_part_may_be_missing(key, sample, render):
    report = sample()
    del report[key]
    assert "Not there: " in render([report])


@pytest.mark.parametrize("part", ["results", "attack", "timing"])
def test_a_run_without_a_baseline_is_shown(part, sample, sections):
    report = sample()
    sides = report[part].get("arms", report[part])
    sides["baseline"] = None
    assert "<svg" in sections(report)["By group"]


def test_several_runs_are_compared_and_their_budgets_added(several, render, parse):
    page = parse(render(several()))
    assert "who publishes all spends epsilon at most 12.0 at delta 3.00e-5" in page.text
    assert "All together: epsilon at most 9.13" in parse(render(several(), composed=9.1234)).text
    assert page.text.count("In plain words") == 3
    apart = several()
    for index, report in enumerate(apart):
        report["data"]["fingerprint"] = str(index)
    assert "add up" not in parse(render(apart)).text.split("Each run")[0]


def test_what_voids_or_refutes_the_claim_stands_above_all(sample, render, parse):
    def boxes(report):
        return parse("".join(re.findall('<p class="box danger".*?</p>', render([report])))).text

    assert boxes(sample()) == ""
    assert "Nothing is promised" in boxes(sample(epsilon=None))
    assert "contradicts the claim" in boxes(sample(epsilon=0.0430))
    seeded = sample()
    seeded["run"]["seeded"] = True
    assert "subtract the noise" in boxes(seeded)


def test_a_page_is_reproducible(sample, render):
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


@pytest.mark.slow
def test_no_page_scrolls_sideways_on_any_screen(tmp_path, browse, sample, several, spoil, render):
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
def test_the_page_is_drawn(tmp_path, browse, width, sample, render):
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
