"""The sections of a report's page, in order: a pillar adds a file, and its line here."""

import importlib

from trustml.report.document import Report
from trustml.report.sections.section import Section

_FILES = (
    "plain_words",
    "claim",
    "federated",
    "utility",
    "membership",
    "groups",
    "training",
    "particulars",
)

SECTIONS: tuple[Section, ...] = tuple(
    section for name in _FILES for section in importlib.import_module(f"{__name__}.{name}").SECTIONS
)


def sections_of(report: Report) -> list[Section]:
    """The sections that a report's page has."""
    return [section for section in SECTIONS if section.applies(report)]
