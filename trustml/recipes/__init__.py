"""What each command does, as a library: data, model, plan, training, audit and report joined."""

from trustml.recipes.train.config import TrainConfig as TrainConfig
from trustml.recipes.train.run import TrainResult as TrainResult
from trustml.recipes.train.run import resume as resume
from trustml.recipes.train.run import run as run
