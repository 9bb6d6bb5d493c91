"""What a training run does, apart from being interrupted."""

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spikeloom.errors import ConfigError, NonFiniteError, RunError
from spikeloom.neurons import Neuron
from spikeloom.nn.classifier import Classifier, Output
from spikeloom.run.checkpoint import Checkpoints, read, write
from spikeloom.run.folder import RunFolder
from spikeloom.run.reading import read_events
from spikeloom.training import resume, train
from spikeloom.training.trainer import Trainer

from .conftest import TinyClassifier, assert_same_run, recorded


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read(folder / "checkpoints" / "last.pt")["model"]


def test_a_run_folder_holds_everything(recipe, screen, tmp_path):
    result = train(recipe(), tmp_path / "run", console=screen.console)
    run = result.folder
    names = {path.name for path in run.iterdir()}
    assert names == {
        "recipe.toml",
        "environment.json",
        "inputs.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "weights.safetensors",
        "lock",
    }
    assert {p.name for p in (run / "checkpoints").iterdir()} == {
        "last.pt",
        "previous.pt",
        "best.pt",
    }
    best = read(run / "checkpoints" / "best.pt")
    assert best["epoch"] == result.best.epoch + 1
    stored = load_file(run / "weights.safetensors")
    assert stored.keys() == best["model"].keys()
    assert all(torch.equal(stored[name], value) for name, value in best["model"].items())


def test_events_follow_the_training(recipe, screen, tmp_path):
    result = train(recipe(), tmp_path / "run", console=screen.console)
    events = recorded(tmp_path / "run")
    kinds = [event["event"] for event in events]
    # 22 samples in batches of 4 with drop_last: 5 steps an epoch; steps 0, 2, 4, ... are recorded.
    steps = [["step"] * count + ["epoch"] for count in (3, 2, 3)]
    assert kinds == ["start", *steps[0], *steps[1], *steps[2], "end"]
    assert [e["step"] for e in events if e["event"] == "step"] == list(range(0, 15, 2))
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["step"] for event in epochs] == [5, 10, 15]
    rates = [0.02 * (1 + math.cos(math.pi * e / 3)) / 2 for e in range(3)]
    assert [event["lr"] for event in epochs] == rates
    assert set(epochs[0]["test"]["firing_rates"]) == {"hidden", "out"}
    assert "hidden/tau" in epochs[0]["constants"]
    assert "w0" in epochs[0]["scalars"]
    assert epochs[-1]["best"] == result.best.to_dict()
    confusion = torch.tensor(events[-1]["confusion"])
    assert confusion.sum() == 11
    assert confusion.trace() / 11 == pytest.approx(result.best.test_accuracy)


def test_it_learns(recipe, screen, tmp_path):
    result = train(
        recipe("epochs=30", "schedule=constant"), tmp_path / "run", console=screen.console
    )
    losses = [e["train_loss"] for e in recorded(tmp_path / "run") if e["event"] == "epoch"]
    assert losses[-1] < 0.7 * losses[0]
    assert result.best.test_accuracy > 0.8


def test_equal_recipes_give_equal_runs_and_the_seed_matters(recipe, screen, tmp_path):
    for name, override in (("a", "seed=1"), ("b", "seed=1"), ("c", "seed=2")):
        train(recipe(override), tmp_path / name, console=screen.console)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    a, c = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert not torch.equal(a["first.weight"], c["first.weight"])


def test_accumulated_batches_equal_one_large_batch(install, recipe, screen, tmp_path):
    class Plain(TinyClassifier):
        """Neither BatchNorm nor dropout: the mean gradient is that of the samples."""

        def __init__(self, network, data):
            super().__init__(network, data)
            self.norm, self.drop = nn.Identity(), nn.Identity()

    install(Plain)
    common = ("optimizer=sgd", "lr=0.1", "drop_last=false", "epochs=2", "checkpoint.every_steps=1")
    # 22 samples: steps of 4+4, 4+4, 4+2 against 8, 8, 6.
    train(recipe(*common, "accumulate=2"), tmp_path / "a", console=screen.console)
    train(recipe(*common, "batch_size=8"), tmp_path / "b", console=screen.console)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    for name in a:
        # Sums in another order: a few float32 roundings.
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)
    losses = [
        [e["train_loss"] for e in recorded(tmp_path / name) if e["event"] == "epoch"]
        for name in "ab"
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_rate_of_each_step_falls_to_the_last_one(recipe, screen, tmp_path):
    options = ("schedule=linear", "T_max=2", "each_step=true", "epochs=2", "logging.every_steps=1")
    train(recipe(*options), tmp_path / "run", console=screen.console)
    steps = [event for event in read_events(tmp_path / "run") if event["event"] == "step"]
    whole = recipe(*options).optimizer.lr
    expected = [whole * (1 - i / len(steps)) for i in range(len(steps))]
    assert [event["lr"] for event in steps] == pytest.approx(expected)


def test_clip_norm_bounds_the_gradient(recipe, screen, tmp_path):
    def moved(*overrides: str) -> float:
        run = tmp_path / str(len(list(tmp_path.iterdir())))
        sgd = ("optimizer=sgd", "lr=1.0", "schedule=constant", "epochs=1")
        full = recipe(*sgd, "batch_size=22", *overrides)
        trainer = Trainer(full, torch.device("cpu"), screen.console)
        before = {name: p.detach().clone() for name, p in trainer.classifier.named_parameters()}
        train(full, run, console=screen.console)
        after = weights(run)
        return sum(float((after[n] - p).square().sum()) for n, p in before.items()) ** 0.5

    free = moved()
    assert moved(f"clip_norm={free / 4}") == pytest.approx(free / 4, rel=1e-4)
    assert moved(f"clip_norm={free * 4}") == pytest.approx(free, rel=1e-6)


def test_carried_gradients_add_up(install, recipe, screen, tmp_path):
    gradients = []

    class Watched(TinyClassifier):
        def before_step(self):
            assert self.first.weight.grad is not None
            gradients.append(self.first.weight.grad.clone())

    install(Watched)
    # Steps too small to move a weight: both runs see the same gradients of the same batches.
    still = ("optimizer=sgd", "lr=1e-30", "epochs=1")
    train(recipe(*still), tmp_path / "fresh", console=screen.console)
    fresh = torch.stack(gradients)
    gradients.clear()
    train(recipe(*still, "carry_gradients=true"), tmp_path / "carried", console=screen.console)
    torch.testing.assert_close(torch.stack(gradients), fresh.cumsum(0))


def test_hooks_of_the_method_are_called_around_the_step(install, recipe, screen, tmp_path):
    calls = []

    class Hooked(TinyClassifier):
        def parameter_groups(self):
            head = list(self.second.parameters())
            rest = [p for p in self.parameters() if all(p is not q for q in head)]
            return [{"params": rest}, {"params": head, "lr": 0.005}]

        def before_step(self):
            assert self.first.weight.grad is not None
            calls.append("before")

        def after_step(self):
            calls.append("after")
            with torch.no_grad():
                self.first.weight.clamp_(-0.1, 0.1)

    install(Hooked)
    train(recipe("epochs=1"), tmp_path / "run", console=screen.console)
    assert calls == ["before", "after"] * 5
    assert weights(tmp_path / "run")["first.weight"].abs().max() <= 0.1
    groups = read(tmp_path / "run" / "checkpoints" / "last.pt")["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.02, 0.005]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_runs_the_network_under_autocast(
    install, recipe, screen, tmp_path, precision
):
    seen = set()

    class Watching(TinyClassifier):
        def forward(self, inputs):
            seen.add(str(self.first(inputs.flatten(1)).dtype))
            return super().forward(inputs)

    install(Watching)
    train(recipe(f"precision={precision}"), tmp_path / "run", console=screen.console)
    assert seen == {f"torch.{precision}"}
    state = read(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["model"]["first.weight"].dtype == torch.float32
    assert bool(state["scaler"]) == (precision == "float16")


def test_the_backend_reaches_every_neuron(recipe, screen):
    trainer = Trainer(recipe("backend=eager"), torch.device("cpu"), screen.console)
    neurons = [m for m in trainer.classifier.modules() if isinstance(m, Neuron)]
    assert [neuron.backend for neuron in neurons] == ["eager", "eager"]


def test_threads_are_set_for_the_run_and_put_back(install, recipe, screen, tmp_path):
    seen = set()

    class Watching(TinyClassifier):
        def forward(self, inputs):
            seen.add(torch.get_num_threads())
            return super().forward(inputs)

    install(Watching)
    before = torch.get_num_threads()
    train(recipe("threads=3", "epochs=1"), tmp_path / "run", console=screen.console)
    assert seen == {3}
    assert torch.get_num_threads() == before


def test_the_callers_random_numbers_are_left_alone(recipe, screen, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(recipe("epochs=1"), tmp_path / "run", console=screen.console)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns about torch
def test_torch_compile_gives_the_same_training(recipe, screen, tmp_path):
    # SGD: Adam would blow up the rounding of the bias ahead of BatchNorm, whose gradient is 0.
    common = ("network.dropout=0.0", "backend=eager", "epochs=2", "optimizer=sgd", "lr=0.1")
    torch.compiler.reset()
    counters = torch._dynamo.utils.counters["stats"]
    counters.clear()
    train(recipe(*common, "compile=true"), tmp_path / "a", console=screen.console)
    assert counters["unique_graphs"] > 0
    train(recipe(*common), tmp_path / "b", console=screen.console)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert a.keys() == b.keys()
    for name in a:
        # Fused arithmetic rounds differently.
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)


def test_evaluate_every_skips_epochs_but_not_the_last(recipe, screen, tmp_path):
    train(recipe("evaluate_every=2"), tmp_path / "run", console=screen.console)
    epochs = [event for event in recorded(tmp_path / "run") if event["event"] == "epoch"]
    assert [event["test"] is not None for event in epochs] == [False, True, True]


def test_an_existing_run_folder_is_refused(recipe, screen, tmp_path):
    train(recipe("epochs=1"), tmp_path / "run", console=screen.console)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"exists already.*spikeloom resume .*run"):
        train(recipe(), tmp_path / "run", console=screen.console)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        train(recipe(), tmp_path / "file", console=screen.console)
    (tmp_path / "empty").mkdir()
    assert train(recipe("epochs=1"), tmp_path / "empty", console=screen.console).epochs == 1


def test_a_missing_device_is_named_before_a_folder_is_made(recipe, screen, tmp_path):
    index = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"cuda:{index}.*use \"auto\" or \"cpu\""):
        train(recipe(f"device=cuda:{index}"), tmp_path / "run", console=screen.console)
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_train_in_one_folder(recipe, screen, tmp_path):
    train(recipe("epochs=1"), tmp_path / "run", console=screen.console)
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        import fcntl

        with open(tmp_path / "run" / "lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(ready[1], b"x")
            os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        with pytest.raises(RunError, match="another process is training"):
            resume(tmp_path / "run", console=screen.console)
    finally:
        os.write(done[1], b"x")
        os.waitpid(child, 0)
    # The lock goes with its process.
    resume(tmp_path / "run", console=screen.console)


class Breaks(TinyClassifier):
    """The second layer's output becomes NaN in the forward pass number `at`."""

    at = 7
    passes = 0

    def __init__(self, network, data):
        super().__init__(network, data)
        self.second.register_forward_hook(self.spoil)

    def spoil(self, module, inputs, output):
        return output * math.nan if self.broken else output

    def forward(self, inputs):
        # Steps are told apart by what the optimizer has done, so that a replay breaks there too.
        self.broken = self.training and self.steps_done == self.at
        return super().forward(inputs)

    steps_done = 0

    def after_step(self):
        type(self).steps_done += 1


@pytest.fixture
def breaks(install, monkeypatch):
    monkeypatch.setattr(Breaks, "steps_done", 0)
    install(Breaks)


def test_a_loss_that_is_not_finite_stops_the_run(breaks, recipe, screen, tmp_path):
    with pytest.raises(NonFiniteError) as error:
        train(recipe(), tmp_path / "run", console=screen.console)
    text = str(error.value)
    assert "\n" not in text
    assert "the loss is nan in epoch 1, step 2 (optimizer step 7)" in text
    assert "it began in second (Linear)" in text
    assert f"the last good checkpoint is {tmp_path}/run/checkpoints/last.pt" in text
    assert read(tmp_path / "run" / "checkpoints" / "last.pt")["epoch"] == 1


def test_without_watching_every_step_the_step_is_found_by_going_back(
    breaks, recipe, screen, tmp_path, monkeypatch
):
    # As on a GPU: the sums are looked at every second step, and the break is between.
    begin = Trainer.begin

    def begin_unwatched(self):
        if self.epoch_count_of_begins == 0:
            self.watches_every_step = False
        else:
            # The replay starts after the checkpoint of epoch 0, which is 5 steps.
            Breaks.steps_done = 5
        type(self).epoch_count_of_begins += 1
        begin(self)

    monkeypatch.setattr(Trainer, "epoch_count_of_begins", 0, raising=False)
    monkeypatch.setattr(Trainer, "begin", begin_unwatched)
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 2 \(optimizer step 7\).*in second"):
        train(recipe(), tmp_path / "run", console=screen.console)
    assert "going over the steps since the last checkpoint" in screen.text
    events = recorded(tmp_path / "run")
    assert [e["step"] for e in events if e["event"] == "step"] == [0, 2, 4, 6]


class Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.inf


class Spoiled(nn.Module):
    """The identity; its gradient is infinite."""

    def forward(self, x):
        return Spoil.apply(x)


class SpoiledGradient(TinyClassifier):
    def __init__(self, network, data):
        super().__init__(network, data)
        self.drop = Spoiled()


class ChangedGradient(TinyClassifier):
    def before_step(self):
        self.second.bias.grad.fill_(math.inf)


class LargeGradient(TinyClassifier):
    """Its square is infinite, and a step by Adam from then on zero."""

    def before_step(self):
        self.second.bias.grad.fill_(1e30)


class BadStatistics(TinyClassifier):
    """Normalised, the current is none of note."""

    def __init__(self, network, data):
        super().__init__(network, data)
        self.norm.register_forward_pre_hook(lambda _, given: (given[0] * 1e30,))


@pytest.mark.parametrize("watches", [True, False], ids=["every step", "now and then"])
@pytest.mark.parametrize(
    ("make", "changes", "expected"),
    [
        (SpoiledGradient, [], "gradient of first.weight .* it began in drop (Spoiled)"),
        (ChangedGradient, [], "gradient of second.bias .* what was done to it"),
        (LargeGradient, [], "optimizer's exp_avg_sq of second.bias .* the optimizer's step"),
        (BadStatistics, [], "buffer norm.running_var .* it began in .*norm"),
        (TinyClassifier, ["lr=1e308"], "parameter first.weight .* the optimizer's step"),
    ],
)
def test_what_is_not_finite_is_named_with_its_step(
    install, recipe, screen, tmp_path, monkeypatch, make, changes, expected, watches
):
    """The loss is finite each time; and nothing of it is in a file."""
    if not watches:  # as on a GPU
        begin = Trainer.begin

        def begin_unwatched(self):
            self.watches_every_step = hasattr(self, "watch")  # the second time
            begin(self)

        monkeypatch.setattr(Trainer, "begin", begin_unwatched)
    install(make)
    run = recipe("checkpoint.every_steps=1", "logging.every_steps=2", *changes)
    expected = expected.replace("(", r"\(").replace(")", r"\)")
    expected = expected.replace(" .* ", r" became .* epoch 0, step 0 \(optimizer step 0\): .*")
    with pytest.raises(NonFiniteError, match=expected):
        train(run, tmp_path / "run", console=screen.console)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_no_file_holds_what_is_not_finite(install, recipe, screen, tmp_path):
    """Neither does a run go on from one."""
    install()
    train(recipe(), tmp_path / "run", console=screen.console)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    state = read(checkpoints.last)
    state["optimizer"]["state"][0]["exp_avg"][0, 0] = math.nan
    before = checkpoints.last.read_bytes()
    with pytest.raises(NonFiniteError, match=r"optimizer.state.0.exp_avg is not finite"):
        checkpoints.save(state)
    with pytest.raises(NonFiniteError, match=r"second.bias is not finite"):
        RunFolder(tmp_path / "run").write_weights({"second.bias": torch.tensor(math.inf)})
    assert checkpoints.last.read_bytes() == before
    write(checkpoints.last, state)
    resume(tmp_path / "run", console=screen.console)
    assert "last.pt: optimizer.state.0.exp_avg is not finite" in screen.text
    assert "going on from previous.pt" in screen.text


def test_a_bad_evaluation_is_named(install, recipe, screen, tmp_path):
    class BadInEvaluation(TinyClassifier):
        def forward(self, inputs):
            output = super().forward(inputs)
            return output if self.training else Output(output.scores * math.inf, output.votes)

    install(BadInEvaluation)
    with pytest.raises(NonFiniteError, match=r"evaluation batch 0 is not finite.*the readout"):
        train(recipe(), tmp_path / "run", console=screen.console)


def test_a_classifier_needs_nothing_but_forward(install, recipe, screen, tmp_path):
    class Minimal(Classifier):
        def __init__(self, network, data):
            super().__init__()
            self.linear = nn.Linear(6, data.class_count)

        def forward(self, inputs):
            return Output(self.linear(inputs.flatten(1)))

    install(Minimal)
    result = train(recipe("epochs=1"), tmp_path / "run", console=screen.console)
    assert 0 <= result.best.test_accuracy <= 1
