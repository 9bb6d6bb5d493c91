"""Training: the loop, its protocols, checkpoints, event files, and evaluation."""

from spikeloom.training.distributed import from_main, is_main
from spikeloom.training.estimate import Estimate, dry_run
from spikeloom.training.evaluation import Evaluation, TrainedRun, evaluate, load_run
from spikeloom.training.events import read_events
from spikeloom.training.launch import processes, restarted_folder
from spikeloom.training.runs import adopt, resume, train
from spikeloom.training.trainer import RunResult

__all__ = [
    "Estimate",
    "Evaluation",
    "RunResult",
    "TrainedRun",
    "adopt",
    "dry_run",
    "evaluate",
    "from_main",
    "is_main",
    "load_run",
    "processes",
    "read_events",
    "restarted_folder",
    "resume",
    "train",
]
