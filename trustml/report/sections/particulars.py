"""Plan, versions, ledger and limits."""

from typing import Any

from trustml.report import words
from trustml.report.claim import Ledger
from trustml.report.digits import NONE
from trustml.report.document import Report
from trustml.report.sections.section import Block, Section, Table, absence
from trustml.report.serialize import to_json
from trustml.strict_json import dumps

_LEDGER = "the ledger of what was charged"


def _build(report: Report) -> list[Block]:
    seed = words.SEEDED if report.run.seeded else words.UNSEEDED
    return [
        Block("Limits and assumptions", report.notes, listed=True),
        *([Block("Resumed", report.interruptions, listed=True)] if report.interruptions else []),
        *([Block("Seed", [seed])] if report.plan else []),
        _ledger(report.ledger) if report.ledger else Block("Ledger", [absence(report, _LEDGER)]),
        *(Block(folded=title, table=_table(values)) for title, values in _tables(report) if values),
    ]


def _ledger(ledger: Ledger) -> Block:
    rows = [
        (str(one.number), f"{one.start:,}", f"{one.charged:,}", one.reason)
        for one in ledger.segments
    ]
    text = f"Kept in {ledger.file}; head {ledger.head or NONE}."
    head = ("Segment", "First step", "Steps charged", "Reason")
    return Block("Ledger", [text], table=Table(head, rows) if rows else None)


def _tables(report: Report) -> list[tuple[str, dict[str, Any]]]:
    document = to_json(report)
    training = document["training"] or {}
    inner = {name: value for name, value in training.items() if isinstance(value, dict)}
    names = {"private": "federated", "baseline": "central"} if report.federated else {}
    outer = {name: value for name, value in training.items() if name not in inner}
    return [
        ("Plan", document["plan"]),
        *((f"Training: {names.get(name, name)}", values) for name, values in inner.items()),
        ("Training", outer),
        *((name.capitalize(), document[name]) for name in ("data", "model", "run", "versions")),
    ]


def _table(values: dict[str, Any]) -> Table:
    return Table(("Name", "Value"), [(name, _plain(value)) for name, value in values.items()])


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: NONE, True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else dumps(value, ascii_only=False)


SECTIONS = (Section("particulars", "Plan, versions, ledger and limits", "the plan", _build),)
