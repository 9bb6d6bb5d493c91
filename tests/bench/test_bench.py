"""Benchmarks time only what agrees with the reference, and say what they were measured on."""

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikeloom.bench import neurons, training
from spikeloom.bench.timing import best_of, write_csv
from spikeloom.cli import main
from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import load_recipe
from spikeloom.neurons import IF


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> neurons.Case:
    monkeypatch.setitem(neurons.SHAPES, "tiny", (3, 2, 4, 5, 5))
    return neurons.Case("PLIF", "tiny")


def test_rows_count_in_copies_of_the_input(tiny: neurons.Case) -> None:
    rows = {row["contender"]: row for row in neurons.measure(tiny, 2, compile_eager=False)}
    assert {"spikeloom", "eager"} <= set(rows)
    for row in rows.values():
        assert row["shape"] == "3x2x4x5x5"
        assert "note" in row or float(str(row["training_copies"])) > 0


def test_a_contender_with_other_spikes_is_not_timed(
    tiny: neurons.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(neuron: object) -> tuple[neurons.Network, torch.nn.Module]:
        other = IF(backend="eager")
        return other, other

    monkeypatch.setattr(neurons, "PEERS", {"wrong": wrong})
    rows = {row["contender"]: row for row in neurons.measure(tiny, 1, compile_eager=False)}
    assert "spikes differ" in str(rows["wrong"]["note"])
    assert "training_copies" not in rows["wrong"]


def test_a_contender_with_another_gradient_is_not_timed(
    tiny: neurons.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(neuron: torch.nn.Module) -> tuple[neurons.Network, torch.nn.Module]:
        def run(x: Tensor) -> Tensor:
            spikes = neuron(x)
            return spikes.detach() + 2 * (spikes - spikes.detach())

        return run, neuron

    monkeypatch.setattr(neurons, "PEERS", {"doubled": doubled})
    rows = {row["contender"]: row for row in neurons.measure(tiny, 1, compile_eager=False)}
    assert "gradient is off" in str(rows["doubled"]["note"])


def test_every_layout_and_dtype_of_the_default_cases_is_dense_or_constant() -> None:
    for case in neurons.default_cases():
        assert case.neuron in neurons.NEURONS
        assert case.shape in neurons.SHAPES
        assert case.dtype in neurons.DTYPES


def test_training_step_is_compared_with_the_same_network_of_relus() -> None:
    recipe = load_recipe("plif/digits", ["T=2"])
    rows = training.measure(recipe, batch=4, rounds=1)
    assert [row["contender"] for row in rows] == ["spikeloom", "eager", "relu"]
    assert rows[-1]["times_relu"] == 1.0


def test_a_network_that_relu_cannot_stand_in_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="than a ReLU can answer"):
        training.measure(load_recipe("ide/digits"), batch=4, rounds=1)


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    best_of([lambda: calls.append("a"), lambda: calls.append("b")], rounds=2)
    assert calls == ["a", "b", "a", "b", "a", "b"]


def test_csv_names_machine_versions_and_command(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.csv"
    write_csv(path, [{"figure": 1}, {"figure": 2, "note": "n"}])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["figure"] for row in rows] == ["1", "2"]
    assert rows[0]["torch"] == torch.__version__
    assert {"cpu", "threads", "python", "numba", "command"} <= set(rows[0])


def test_unknown_neuron_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["bench", "neurons", "PLIFF"])
    assert exit.value.code == 2
    assert 'did you mean "PLIF"?' in capsys.readouterr().err
