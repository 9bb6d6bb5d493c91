"""Benchmarks time only what agrees with the reference, and say what they were measured on."""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import calls, cases, contenders, linear, neurons, startup, training
from benchmarks.__main__ import main
from benchmarks.cases import Case
from benchmarks.leaky_peers import Network
from benchmarks.runner import Contender, Results, Row, Tolerance, Trial, disagreement, measure
from benchmarks.timing import best_of, clock_name, timings, write_csv
from spikeloom.analysis import agreement
from spikeloom.analysis.agreement import with_backend
from spikeloom.errors import ConfigError, SpikeloomError
from spikeloom.neurons import IF, PLIF, Neuron

TINY = Case("neurons", "PLIF", (3, 2, 4, 5, 5))


def by_contender(rows: list[Row]) -> dict[str, Row]:
    return {str(row["contender"]): row for row in rows}


def test_rows_count_in_copies_of_the_input_and_in_a_share_of_its_bandwidth() -> None:
    rows = by_contender(measure(neurons.trial(TINY), 2))
    assert {"spikeloom", "eager"} <= set(rows)
    assert "copy" not in rows
    ours = rows["spikeloom"]
    assert ours["shape"] == "3x2x4x5x5"
    assert ours["backend"] == "cpu"
    copies, share = float(str(ours["training_copies"])), float(str(ours["training_share"]))
    assert copies > 0
    assert share == pytest.approx(2.5 / copies, rel=0.05)  # x, s; x, g, gx: five for a copy's two
    for row in rows.values():
        assert row["note"] or "training_copies" in row


Build = Callable[[Neuron], tuple[Network, nn.Module]]


def wrong(neuron: Neuron) -> tuple[Network, nn.Module]:
    other = IF(backend="eager")
    return other, other


def doubled(neuron: Neuron) -> tuple[Network, nn.Module]:
    def run(x: Tensor) -> Tensor:
        spikes = neuron(x)
        return spikes.detach() + 2 * (spikes - spikes.detach())

    return run, neuron


def broken(neuron: Neuron) -> tuple[Network, nn.Module]:
    def run(x: Tensor) -> Tensor:
        raise RuntimeError("needs a device\nthat is not here")

    return run, neuron


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (wrong, "spikes differ"),
        (doubled, "gradient of x is off"),
        (broken, "RuntimeError: needs a device"),
    ],
)
def test_a_contender_that_computes_something_else_is_not_timed(
    build: Build, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "PEERS", {"numpy": build})  # any installed package's name
    row = by_contender(measure(neurons.trial(TINY), 1))["numpy"]
    assert str(row["note"]).startswith("not timed")
    assert why in str(row["note"])
    assert "training_copies" not in row


def test_a_peer_that_is_not_installed_has_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contenders, "PEERS", {"no_such_library": wrong})
    row = by_contender(measure(neurons.trial(TINY), 1))["no_such_library"]
    assert row["note"] == "absent: not installed"


def low_state(neuron: Neuron) -> tuple[Network, nn.Module]:
    return lambda x: contenders.half_state(neuron, x), neuron


def test_a_peer_with_a_half_precision_state_is_timed_under_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contenders, "PEERS", {"numpy": low_state})
    case = Case("neurons", "PLIF", (20, 4, 8, 8, 8), "bfloat16")
    row = by_contender(measure(neurons.trial(case), 1))["numpy"]
    assert str(row["note"]).startswith("its state is bfloat16")
    assert "of its spikes differ" in str(row["note"])
    assert "training_copies" in row


def test_where_ours_cannot_run_its_row_says_why() -> None:
    rows = by_contender(measure(neurons.trial(TINY, backend="eager"), 1))
    assert rows["spikeloom"]["note"] == "absent: asked for"


def test_disagreement_of_a_whole_tensor_counts_in_its_norm() -> None:
    spikes = torch.zeros(2, 3)
    weight = torch.tensor([3.0, 4.0])
    got, wanted = (Results(spikes, {"weight": w}) for w in (weight + 0.05, weight))
    assert disagreement(got, wanted, Tolerance(gradients=0.1, elementwise=False)) is None
    problem = disagreement(got, wanted, Tolerance(gradients=0.01, elementwise=False))
    assert problem == "its gradient of weight is off by 1.4e-02 of its norm"


def test_neurons_with_other_spikes_are_left_out_of_an_elementwise_gradient() -> None:
    spikes = torch.zeros(1, 1000)
    flipped = spikes.clone()
    flipped[0, 7] = 1
    gradient, other = torch.ones(1, 1000), torch.ones(1, 1000)
    other[0, 7] = 5
    tolerance = Tolerance(spikes=2e-3)
    got, wanted = Results(flipped, {"x": other}), Results(spikes, {"x": gradient})
    assert disagreement(got, wanted, tolerance) is None
    assert disagreement(got, wanted, Tolerance(spikes=1e-4)) is not None


def test_floors_are_timed_without_results() -> None:
    trial = Trial(
        columns={},
        contenders=[Contender("floor", {"step": lambda: None})],
        reference="none",
        expected=lambda: Results(None, {}),
        figures=lambda name, times: {"seconds": times[name]["step"].best},
    )
    (row,) = measure(trial, 1)
    assert row["reference"] == "" and float(str(row["seconds"])) < 1


def test_linear_layer_alone_is_a_line_and_precision_is_stated() -> None:
    case = Case("linear", "LIF SuperSpike", (6, 4, 32))
    rows = by_contender(measure(linear.trial(case), 2))
    assert rows["linear only"]["times_linear"] == 1.0
    assert rows["spikeloom"]["reference"] == "eager, float64"
    assert rows["spikeloom"]["matmul"] == "float32, highest"
    assert float(str(rows["spikeloom"]["neurons_ms"])) > 0


def test_low_precision_products_are_compared_on_the_same_product() -> None:
    case = Case("linear", "LIF SuperSpike", (6, 4, 32), "bfloat16")
    row = by_contender(measure(linear.trial(case), 1))["spikeloom"]
    assert row["reference"] == "eager, bfloat16"
    assert row["note"] == ""


def test_torch_compile_is_left_out_where_it_unrolls_many_steps() -> None:
    case = Case("linear", "LIF SuperSpike", (6, 4, 32))
    assert "unrolls 6 time steps" in linear.trial(case, compile_eager=True).absent["torch.compile"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_registry_holds_every_family_and_each_case_once(device: str) -> None:
    for family, make in cases.FAMILIES.items():
        found = list(make(device))
        assert found and len(set(found)) == len(found)
        for case in found:
            assert case.family == family and case.device == device
            assert family == "training" or case.subject in cases.NEURONS
            assert case.dtype in cases.DTYPES
        assert all(max(case.shape) <= 33 for case in cases.small(found))


def test_linear_cases_on_a_cpu_are_those_that_it_can_do() -> None:
    sizes = {case.shape[2] for case in cases.linear_cases("cpu")}
    assert sizes == {512, 4096}
    assert {case.shape[2] for case in cases.linear_cases("cuda")} == set(cases.LINEAR_SIZES)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "constant"])
def test_currents_lie_in_memory_as_their_layout_says(layout: cases.Layout) -> None:
    x = Case("neurons", "IF", (2, 3, 4, 5, 6), layout=layout).input()
    assert x.shape == (2, 3, 4, 5, 6)
    assert (x.stride(0) == 0) == (layout == "constant")
    assert (x.stride(2) == 1) == (layout == "channels_last")


def test_training_step_is_compared_with_the_same_network_of_relus() -> None:
    rows = by_contender(measure(training.trial(Case("training", "plif/digits", (4,)), ["T=2"]), 1))
    assert {"relu", "spikeloom", "eager"} <= set(rows)
    assert rows["relu"]["times_relu"] == 1.0
    assert rows["spikeloom"]["note"] == ""
    assert (rows["spikeloom"]["T"], rows["spikeloom"]["batch"]) == (2, 4)


def test_a_network_that_relu_cannot_stand_in_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class WithoutState(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AttributeError("no state")

    monkeypatch.setattr(training, "TimedReLU", WithoutState)
    with pytest.raises(ConfigError, match="than a ReLU can answer"):
        training.trial(Case("training", "plif/digits", (4,)))


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    best_of([lambda: calls.append("a"), lambda: calls.append("b")], rounds=2)
    assert calls[-4:] == ["a", "b", "a", "b"]


def test_a_process_is_timed_by_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    work = "import time\nwhile time.process_time() < 0.6: pass"
    programs = {"nothing": "pass", "work": work, "a nap": "import time; time.sleep(0.6)"}
    monkeypatch.setattr(startup, "IMPORTS", programs)
    monkeypatch.setattr(startup, "KINDS", ())
    nothing, work_time, nap = (float(str(row["seconds"])) for row in startup.measure(1))
    assert 0 <= nothing < 0.55 < work_time  # the system counts in hundredths, and may lose some
    assert nap < 0.55


def test_a_process_that_fails_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "IMPORTS", {"failing": "raise ValueError('no such thing')"})
    with pytest.raises(SpikeloomError, match="ValueError: no such thing"):
        startup.measure(1)


@pytest.mark.slow
def test_a_small_layer_is_a_handful_of_calls() -> None:
    """Counts, unlike times, are the same everywhere; what depends on shapes alone is held."""
    forward, training, stream = calls.small_layers()
    assert 0 < forward["library"] <= 12 and 0 < stream["library"] <= 18  # shapes of states checked
    assert forward["library"] < training["library"] <= 18


def test_first_call_is_slower_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "IMPORTS", {})
    monkeypatch.setattr(startup, "KINDS", ("PLIF",))
    rows = {str(row["what"]): row for row in startup.measure(1)}
    empty, filled = (
        float(str(rows[f"first call, PLIF [8x4x16x8x8], {kind}"]["seconds"]))
        for kind in ("no cache", "cached")
    )
    assert empty > filled > 0


def test_csv_names_machine_versions_and_command(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.csv"
    write_csv(path, [{"figure": 1}, {"figure": 2, "note": "n"}])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["figure"] for row in rows] == ["1", "2"]
    assert rows[0]["torch"] == torch.__version__
    assert {"cpu", "threads", "load", "python", "numba", "command"} <= set(rows[0])


def test_unknown_neuron_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["neurons", "PLIFF"])
    assert exit.value.code == 2
    assert 'did you mean "PLIF"?' in capsys.readouterr().err


def test_verb_writes_the_rows_and_fails_where_ours_disagrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.csv"
    monkeypatch.setattr(cases, "neuron_cases", lambda device: iter([TINY]))
    monkeypatch.setattr(contenders, "PEERS", {})
    arguments = ["neurons", "--device", "cpu", "--rounds", "1", "--csv", str(path)]
    with pytest.raises(SystemExit) as good:
        main(arguments)
    assert not good.value.code
    rows = csv.DictReader(path.read_text().splitlines())
    assert [row["contender"] for row in rows] == ["spikeloom", "eager"]
    with pytest.raises(SystemExit):
        main([*arguments, "--plain"])  # another case; measured again it takes the place of its rows
    monkeypatch.setattr(neurons, "TOLERANCE", Tolerance(gradients=-1))
    with pytest.raises(SystemExit) as bad:
        main(arguments)
    assert bad.value.code == 1
    assert "spikeloom has no figure: PLIF 3x2x4x5x5: not timed" in capsys.readouterr().err
    rows = csv.DictReader(path.read_text().splitlines())
    found = [(row["memory"], row["contender"], row["note"] != "") for row in rows]
    assert found[:2] == [("plain", "spikeloom", False), ("plain", "eager", False)]
    assert found[2:] == [("kept", "spikeloom", True), ("kept", "eager", True)]


def test_one_thread_is_timed_by_what_it_used_of_the_processor() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert clock_name("cpu") == "cpu time"
        torch.set_num_threads(2)
        assert clock_name("cpu") == "wall"
    finally:
        torch.set_num_threads(threads)
    assert clock_name("cuda") == "cuda events"
    nap, wall = timings([lambda: time.sleep(0.05)], 1, "cpu time")[0], 0.05
    assert nap.best < wall / 2
    assert timings([lambda: time.sleep(0.05)], 1, "wall")[0].best >= wall


def test_agreement_with_float64() -> None:
    shape = (5, 3, 7, 5, 5)
    row = agreement.compare(Case("neurons", "PLIF", shape))
    assert row["note"] == "" and row["backend"] == "cpu"
    assert float(str(row["gradient_error"])) < 1e-5
    row = agreement.compare(Case("neurons", "PLIF", shape), backend="eager")
    assert str(row["note"]).startswith("absent")


def test_agreement_notices_a_kernel_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(neuron: Neuron, backend: str) -> Neuron:
        other = with_backend(neuron, backend)
        if backend == "auto":
            assert isinstance(other, PLIF)
            other.w = nn.Parameter(other.w.detach() + 0.05)
        return other

    monkeypatch.setattr(agreement, "with_backend", off)
    row = agreement.compare(Case("neurons", "PLIF", (5, 3, 7, 5, 5)))
    assert str(row["note"]).startswith("wrong")
