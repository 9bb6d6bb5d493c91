"""Methods and data sets of other packages, installed beside this one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spikeloom import extensions
from spikeloom.run import checkpoint

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_method"


class Site:
    """A folder of installed packages, as pip leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, package: str, entry_points: str, **modules: str) -> None:
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        for name, text in modules.items():
            (self.folder / f"{name}.py").write_text(text)

    def spikeloom(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spikeloom", *arguments],
            env=os.environ | {"PYTHONPATH": str(self.folder)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Site(tmp_path)


def test_a_method_and_a_data_set_of_another_package_are_used_by_name(site: Site):
    (site.folder / "own_method").symlink_to(EXAMPLE)
    site.install("example", "[spikeloom.methods]\nown = own_method\n[spikeloom.data]\nown = dots\n")
    (site.folder / "dots.py").write_text(
        "from spikeloom.data.sets.digits import Digits\n"
        "class Dots(Digits):\n    name = 'dots'\n    title = 'digits by another name'\n"
        "DATA_SETS = (Dots(),)\n"
    )
    listed = site.spikeloom("recipes", "own_method")
    assert "own_method/digits" in listed.stdout, listed.stderr
    assert "dots" in site.spikeloom("data", "list").stdout
    trained = site.spikeloom(
        "train", "own_method/digits", "data=dots", "epochs=1", "hidden=8", "--out", "run"
    )
    assert trained.returncode == 0, trained.stderr
    assert (site.folder / "run" / "checkpoints" / "last.pt").exists()


HALVING = """
from pydantic import Field
from spikeloom.config.schema import Schedule
from spikeloom.config.section import register

@register
class Halving(Schedule):
    '''lr / d^e'''
    name: str = Field(default="halving", description="shape")
    divisor: float = Field(default=2.0, gt=1, description="the rate is divided by it each epoch")

    def shape(self, lr, epoch):
        return lr / self.divisor**epoch
"""


def test_a_component_of_another_package_is_chosen_by_name(site: Site):
    site.install("rates", "[spikeloom.components]\nrates = halving\n", halving=HALVING)
    shown = site.spikeloom("config", "show", "plif/digits", "schedule=halving", "divisor=4")
    assert shown.returncode == 0, shown.stderr
    assert 'name = "halving"' in shown.stdout and "divisor = 4" in shown.stdout
    wrong = site.spikeloom("config", "check", "plif/digits", "schedule=halving", "divisor=1")
    assert "schedule.divisor: got 1, expected a number, above 1" in wrong.stderr


PARTS = """
import torch
from pydantic import Field
from spikeloom.components.callbacks import Callback
from spikeloom.config.data import Augmentation
from spikeloom.config.schema import CallbackConfig, Optimizer
from spikeloom.config.section import register

class Counter(Callback):
    steps = 0
    def after_step(self, training):
        self.steps += 1
    def state(self):
        return {"steps": self.steps}
    def load(self, state):
        self.steps = state["steps"]

@register
class Count(CallbackConfig):
    'Counts steps.'
    kind: str = Field(default="count", description="counts steps")
    def build(self):
        return Counter()

@register
class Plain(Optimizer):
    'Steps along the gradient.'
    name: str = Field(default="plain", description="update rule")
    def build(self, groups):
        return torch.optim.SGD(groups, lr=self.lr)

@register
class Mirrored(Augmentation):
    'Every sample upside down.'
    kind: str = Field(default="mirrored", description="upside down")
    def apply(self, inputs, generator):
        return inputs.flip(2)
"""


def test_recordings_an_optimizer_a_change_and_a_callback_of_another_package_train(site: Site):
    """The event data set is the one of docs/extending.md, to the letter."""
    text = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text("utf-8")
    block = r"```python\n(import numpy as np\nfrom spikeloom.data.events.*?)data\.register"
    found = re.search(block, text, re.DOTALL)
    assert found
    entry_points = "[spikeloom.data]\nmine = desk\n[spikeloom.components]\nparts = parts\n"
    site.install("desk", entry_points, desk=found[1], parts=PARTS)
    draws = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        folder = site.folder / "DATA" / "MINE" / split
        folder.mkdir(parents=True)
        for number in range(count):
            t = np.sort(draws.integers(0, 1000, 200))
            rows = np.stack([t, *draws.integers(0, 32, (2, 200)), draws.integers(0, 2, 200)], 1)
            (folder / f"{number % 2}_{number}.ev").write_bytes(rows.astype("<i4").tobytes())
    own = ("data=mine", "root=DATA", "optimizer=plain", 'callbacks=[{kind="count"}]')
    sizes = ("T=2", "channels=2", "batch_size=4", "epochs=1", "backend=eager", "threads=1")
    options = ('augment=[{kind="mirrored"}]', "--no-report", "--out", "run")
    done = site.spikeloom("train", "plif/nmnist", *own, *sizes, *options)
    assert done.returncode == 0, done.stderr
    state = checkpoint.read(site.folder / "run" / "checkpoints" / "last.pt")
    assert state["callbacks"] == {"0.count": {"steps": 2}}


def test_a_component_whose_name_is_taken_is_left_out(site: Site):
    text = HALVING.replace('default="halving"', 'default="cosine"')
    site.install("rates", "[spikeloom.components]\nrates = halving\n", halving=text)
    shown = site.spikeloom("config", "check", "plif/digits")
    assert shown.returncode == 0
    assert "there is a schedule 'cosine' already" in shown.stderr


def test_a_broken_package_takes_away_only_what_it_brings(site: Site):
    site.install("broken", "[spikeloom.methods]\nbad = bad_method\n", bad_method="1 / 0\n")
    shown = site.spikeloom("config", "show", "plif/digits")
    assert shown.returncode == 0
    assert (
        'entry point bad = "bad_method" of the package broken is left out: its import fails: '
        "ZeroDivisionError: division by zero" in shown.stderr
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no `method = Method(...)`"),
        ("from spikeloom.methods.plif import method\n", "there is a method plif already"),
    ],
)
def test_a_module_without_a_method_of_its_own_is_left_out(site: Site, text: str, why: str):
    site.install("odd", "[spikeloom.methods]\nodd = odd\n", odd=text)
    shown = site.spikeloom("recipes", "plif")
    assert why in shown.stderr
    assert "plif/digits" in shown.stdout


def test_only_modules_extend(site: Site):
    site.install("value", "[made.up]\nvalue = holder:number\n", holder="number = 3\n")
    with pytest.warns(UserWarning, match="it is no module: name a module, without a colon"):
        assert list(extensions.modules("made.up")) == []
