"""Joins what the uses return into one report."""

from trustml.report.files import write_json as write_json
from trustml.report.files import write_lines as write_lines
from trustml.report.summary import SCHEMA_VERSION as SCHEMA_VERSION
from trustml.report.summary import Estimate as Estimate
from trustml.report.summary import mean_of as mean_of
from trustml.report.summary import versions as versions
