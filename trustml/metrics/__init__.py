"""Task metrics on arrays and texts, as counts that add where they can be."""

from trustml.metrics.joint import JointScores as JointScores
from trustml.metrics.joint import entities as entities
from trustml.metrics.joint import entity_counts as entity_counts
from trustml.metrics.joint import joint_scores as joint_scores
from trustml.metrics.joint import precision_recall_f1 as precision_recall_f1
from trustml.metrics.joint import slot_scores as slot_scores
from trustml.metrics.scoring import Metric as Metric
from trustml.metrics.scoring import Scoring as Scoring
from trustml.metrics.tasks import SCORINGS as SCORINGS
from trustml.metrics.text import bleu as bleu
from trustml.metrics.text import bleu_counts as bleu_counts
from trustml.metrics.text import bleu_of_counts as bleu_of_counts
from trustml.metrics.text import exact_match as exact_match
from trustml.metrics.text import perplexity as perplexity
from trustml.metrics.text import rouge_l as rouge_l
from trustml.metrics.text import token_f1 as token_f1
