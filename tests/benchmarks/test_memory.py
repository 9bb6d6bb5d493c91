"""What a layer keeps between forward and backward, and what a training step takes at most."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import memory
from benchmarks.__main__ import main
from benchmarks.memory import kept_bytes, measure_layers, measure_steps
from spikeloom.neurons import IF


class Hiding(torch.autograd.Function):
    """Keeps the doubled input where autograd does not see it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.hidden = x * 2
        return torch.ones_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.hidden


@pytest.mark.parametrize(
    ("network", "per_value"),
    [
        (lambda x: x * 3, 0),
        (lambda x: x * x, 4),
        (torch.sigmoid, 4),
        (lambda x: x * x.sigmoid(), 4 + 4),
        (Hiding.apply, 4),
    ],
    ids=["nothing", "input", "output", "two", "hidden"],
)
def test_counted_is_what_lives_on(network: Any, per_value: int) -> None:
    assert kept_bytes(network, torch.randn(5, 2, 8)) == per_value * 5 * 2 * 8


def test_a_layer_of_dsr_keeps_a_byte_per_neuron_whatever_t_and_the_published_way_the_input() -> (
    None
):
    rows = {
        (row["library"], row["T"]): row["bytes_per_neuron"]
        for row in measure_layers(("DSR LIF",), (3, 6))
        if row["library"] in ("spikeloom", "published way")
    }
    assert rows == {
        ("spikeloom", 3): 1.0,
        ("spikeloom", 6): 1.0,
        ("published way", 3): 12.0,
        ("published way", 6): 24.0,
    }


def test_a_compiled_plif_keeps_its_input_and_the_eager_one_more() -> None:
    rows = {row["library"]: row["bytes_per_neuron"] for row in measure_layers(("PLIF",), (4,))}
    assert rows["spikeloom"] == 16.0
    assert float(str(rows["eager"])) > 32


def test_a_library_that_computes_something_else_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "PEERS", {"other": lambda neuron: (IF(backend="eager"), neuron)})
    rows = {row["library"]: row for row in measure_layers(("LIF",), (3,))}
    assert "something else" in str(rows["other"]["note"])
    assert "bytes_per_neuron" not in rows["other"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_a_training_step_at_the_equilibrium_takes_the_same_memory_for_any_t() -> None:
    few, many = (
        float(str(row["peak_megabytes"]))
        for row in measure_steps("ide/digits", (3, 60), batch=256, shape=(1, 8, 8))
    )
    # The spikes of 57 more steps alone, kept as float32, would be 57 x 256 x 64 x 4 x 4 bytes.
    assert few > 5
    assert abs(many - few) < 3


def test_the_command_prints_both_and_writes_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "NEURONS", {"LIF": memory.NEURONS["LIF"]})
    monkeypatch.setattr(memory, "TIME_STEPS", (2,))
    monkeypatch.setattr(memory, "STEP_TIME_STEPS", ())
    with pytest.raises(SystemExit) as exit:
        main(["memory", "--csv", str(tmp_path / "m.csv")])
    assert exit.value.code == 0
    assert "bytes" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert {row["library"] for row in rows} >= {"spikeloom", "eager"}
    assert all(row["what"] == "LIF" for row in rows)
