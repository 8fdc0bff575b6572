"""What each command does, as a library: data, model, plan, training, audit and report joined."""

from trustml.recipes.composition import compose as compose
from trustml.recipes.data import check_data as check_data
from trustml.recipes.data import list_data as list_data
from trustml.recipes.export.run import ExportConfig as ExportConfig
from trustml.recipes.export.run import export_run as export_run
from trustml.recipes.federate.config import FederateConfig as FederateConfig
from trustml.recipes.federate.run import federate as federate
from trustml.recipes.federate.run import resume_federation as resume_federation
from trustml.recipes.planning import PlanConfig as PlanConfig
from trustml.recipes.planning import plan as plan
from trustml.recipes.predict.config import PredictConfig as PredictConfig
from trustml.recipes.predict.file import predict_file as predict_file
from trustml.recipes.predict.model import TrainedModel as TrainedModel
from trustml.recipes.predict.model import load_model as load_model
from trustml.recipes.reports import ReportConfig as ReportConfig
from trustml.recipes.reports import write_report as write_report
from trustml.recipes.scores.audit import AuditConfig as AuditConfig
from trustml.recipes.scores.audit import audit_scores as audit_scores
from trustml.recipes.study.grid import StudyConfig as StudyConfig
from trustml.recipes.study.run import audit_study as audit_study
from trustml.recipes.train.config import TrainConfig as TrainConfig
from trustml.recipes.train.run import TrainResult as TrainResult
from trustml.recipes.train.run import resume as resume
from trustml.recipes.train.run import run as run
