"""Metrics: of sums that stay on the device, and of the scores of all samples of val and test."""

from trainer.metrics import of_counts, of_scores
from trainer.metrics.chosen_on_val import choose_on_val
from trainer.metrics.registry import DEFAULTS, METRICS, Metric, Monitor, choose_metrics, choose_monitor, metric
from trainer.metrics.sums import Sums
from trainer.metrics.temperature import Calibration
from trainer.metrics.thresholds import THRESHOLD, choose_thresholds, fixed_thresholds, shown_thresholds

__all__ = [
    "DEFAULTS",
    "METRICS",
    "THRESHOLD",
    "Calibration",
    "Metric",
    "Monitor",
    "Sums",
    "choose_metrics",
    "choose_monitor",
    "choose_on_val",
    "choose_thresholds",
    "fixed_thresholds",
    "metric",
    "of_counts",
    "of_scores",
    "shown_thresholds",
]
