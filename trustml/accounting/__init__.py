"""Epsilon and delta of a described run. Float64, imports no JAX."""

from trustml.accounting.account import Accounting as Accounting
from trustml.accounting.steps import ACCOUNTANTS as ACCOUNTANTS
from trustml.accounting.steps import ADJACENCIES as ADJACENCIES
from trustml.accounting.steps import SUPPORTED as SUPPORTED
from trustml.accounting.steps import Run as Run
from trustml.accounting.steps import SampledGaussian as SampledGaussian
from trustml.accounting.steps import check_supported as check_supported
