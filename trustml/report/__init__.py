"""Joins what the uses return into one report: typed, written as JSON, shown as a page."""

from trustml.report.build import clipping as clipping
from trustml.report.build import learning as learning
from trustml.report.build import report_frame as report_frame
from trustml.report.build import with_data as with_data
from trustml.report.card import ExportedFiles as ExportedFiles
from trustml.report.card import model_card as model_card
from trustml.report.document import Report as Report
from trustml.report.folder import read_report as read_report
from trustml.report.page import render as render
from trustml.report.serialize import from_json as from_json
from trustml.report.serialize import load_schema as load_schema
from trustml.report.serialize import make_schema as make_schema
from trustml.report.serialize import to_json as to_json
from trustml.report.summary_table import summary_table as summary_table
from trustml.training.runs.files import write_json as write_json
from trustml.training.runs.files import write_text as write_text
