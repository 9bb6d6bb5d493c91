"""Training: the loop, its protocols, checkpoints, event files, and evaluation."""

from spikeloom.evaluation.evaluation import Evaluation, TrainedRun, evaluate, load_run
from spikeloom.processes.distributed import from_main, is_main
from spikeloom.processes.launch import processes
from spikeloom.run.folder import restarted_folder
from spikeloom.run.reading import read_events
from spikeloom.training.estimate import Estimate, dry_run
from spikeloom.training.position import RunResult
from spikeloom.training.runs import adopt, resume, train

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
