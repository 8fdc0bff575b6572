"""The sections of a report's page, in order: a pillar adds a file, and its line here."""

from trustml.report.sections import (
    claim,
    groups,
    membership,
    particulars,
    plain_words,
    training,
    utility,
)
from trustml.report.sections.section import Section

SECTIONS: tuple[Section, ...] = (
    plain_words.SECTION,
    claim.SECTION,
    utility.SECTION,
    membership.SECTION,
    groups.SECTION,
    training.TIMING,
    training.CLIPPING,
    training.LEARNING,
    particulars.SECTION,
)
