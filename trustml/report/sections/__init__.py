"""The sections of a report's page, in order: a pillar adds a file, and its line here."""

import importlib

from trustml.report.sections.section import Section

_FILES = (
    "plain_words",
    "claim",
    "utility",
    "membership",
    "groups",
    "training",
    "particulars",
)

SECTIONS: tuple[Section, ...] = tuple(
    section for name in _FILES for section in importlib.import_module(f"{__name__}.{name}").SECTIONS
)
