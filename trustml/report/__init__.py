"""Joins what the uses return into one report."""

from trustml.report.build import clipping as clipping
from trustml.report.build import learning as learning
from trustml.report.build import report_frame as report_frame
from trustml.report.card import model_card as model_card
from trustml.report.folder import read_report as read_report
from trustml.report.page import render as render
from trustml.report.schema import SCHEMA_VERSION as SCHEMA_VERSION
from trustml.report.schema import check as check
from trustml.report.schema import load_schema as load_schema
from trustml.training.runs.files import write_json as write_json
from trustml.training.runs.files import write_text as write_text
