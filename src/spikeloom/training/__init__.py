"""Training: the loop, its protocols, checkpoints, event files, and evaluation."""

from spikeloom.training.evaluation import Evaluation, TrainedRun, evaluate, load_run
from spikeloom.training.events import read_events
from spikeloom.training.runs import adopt, resume, train
from spikeloom.training.trainer import RunResult

__all__ = [
    "Evaluation",
    "RunResult",
    "TrainedRun",
    "adopt",
    "evaluate",
    "load_run",
    "read_events",
    "resume",
    "train",
]
