"""The checklists of CONTRIBUTING.md, followed to the letter in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spikeloom

ROOT = Path(__file__).parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text("utf-8")

NEURON = '''

class ThLIF(LIF):
    """LIF with a threshold that is learned per channel."""

    def __init__(self, channels: int, tau: float = 2.0, *, backend: Any = "auto") -> None:
        super().__init__(tau, backend=backend)
        self.raised = nn.Parameter(torch.zeros(channels))

    def coefs(self) -> dict[str, Tensor]:
        return super().coefs() | {"raised": self.raised}

    def step(self, x: Tensor, v: Tensor, *, raised: Tensor, **coefs: Tensor) -> tuple[Tensor, ...]:
        return super().step(x - raised, v, **coefs)
'''
SURROGATE = '''

class SoftSign(Surrogate):
    """Derivative 1 / (1 + |u|)^2 of the soft sign u / (1 + |u|)."""

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + u.abs()).square()
'''
CHECK = """
import sys, torch, spikeloom as sl
from spikeloom.analysis import agreement
from spikeloom.methods import catalog

print("neuron", type(sl.ThLIF(3)).__name__, type(sl.SoftSign()).__name__)
agreement.VARIANTS = {"ThLIF": sl.ThLIF, "soft": lambda n: sl.LIF(surrogate=sl.SoftSign())}
for name in agreement.VARIANTS:
    row = agreement.compare(agreement.Case("agreement", name, (5, 3, 4)))
    print("agreement", name, row["backend"], row["note"] or "agrees")
print("data", sl.data.load("stripes").spec.class_count, "mine" in sl.data.names())
print("recipe", "own_method/digits" in catalog.recipe_names())
"""
TINY = ("epochs=1", "threads=1", "logging.tensorboard=false", "training.device=cpu")


def block(beginning: str) -> str:
    """The Python block of docs/extending.md that begins so, without its lines of use."""
    found = re.search(rf"```python\n({re.escape(beginning)}.*?)```", EXTENDING, re.DOTALL)
    assert found, f"no block begins with {beginning!r}"
    return re.split(r"(?m)^(?:data\.register|recipe = )", found[1])[0]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contributing")
    package = folder / "spikeloom"
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(spikeloom.__file__).parent, package, ignore=leave)
    neurons = package / "neurons"
    for file, code in (("leaky.py", NEURON), ("surrogate.py", SURROGATE)):
        text = (neurons / file).read_text("utf-8")
        (neurons / file).write_text(f"{text}\nfrom typing import Any\nfrom torch import nn\n{code}")
    with (neurons / "__init__.py").open("a", encoding="utf-8") as init:
        init.write("\nfrom spikeloom.neurons.leaky import ThLIF as ThLIF\n")
        init.write("from spikeloom.neurons.surrogate import SoftSign as SoftSign\n")
    shutil.copytree(ROOT / "examples" / "own_method", package / "methods" / "own_method")
    sets = package / "data" / "sets"
    stripes = block("import torch\nfrom spikeloom import data\n")
    (sets / "stripes.py").write_text(f"{stripes}\nDATA_SETS = (Stripes(),)\n", "utf-8")
    (sets / "mine.py").write_text(block("import numpy as np\nfrom spikeloom.data.events"), "utf-8")
    return folder


def python(copy: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_neuron_a_surrogate_a_method_and_data_sets_are_found_where_they_are_put(copy) -> None:
    lines = python(copy, "-c", CHECK).splitlines()
    assert lines == [
        "neuron ThLIF SoftSign",
        "agreement ThLIF cpu agrees",
        "agreement soft cpu agrees",
        "data 2 True",
        "recipe True",
    ]


def test_they_are_trained_by_the_command_line(copy) -> None:
    train = ("-m", "spikeloom", "train")
    out = python(copy, *train, "own_method/digits", "data=stripes", *TINY, "--out", "images")
    assert "accuracy-A" in out
    draws = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        (copy / "DATA" / "MINE" / split).mkdir(parents=True)
        for number in range(count):
            t = np.sort(draws.integers(0, 1000, 200))
            rows = np.stack([t, *draws.integers(0, 32, (2, 200)), draws.integers(0, 2, 200)], 1)
            path = copy / "DATA" / "MINE" / split / f"{number % 2}_{number}.ev"
            path.write_bytes(rows.astype("<i4").tobytes())
    events = ("plif/nmnist", "data=mine", "root=DATA", "T=2", "channels=2", "batch_size=4")
    out = python(copy, *train, *events, *TINY, "backend=eager", "--out", "events")
    assert "accuracy-A" in out and "8 training and 4 test samples" in out
