"""Exported networks answer as the networks do: in onnxruntime, as programs of torch, and in C."""

import io
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.cli import main
from spikeloom.errors import ExportError
from spikeloom.exchange import CNetwork, c_source
from spikeloom.exchange.stepwise import StepForm

T, B = 5, 3
NEEDS_COMPILER = pytest.mark.skipif(
    not (shutil.which("gcc") or shutil.which("cc")), reason="no C compiler"
)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def mixed() -> sl.nn.Sequential:
    """Layers that share nothing but that they are to be exported."""
    torch.manual_seed(1)
    net = sl.nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        sl.nn.BatchNorm(4),
        sl.PLIF(v_threshold=0.3, shape=(4,)),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 12),
        sl.GLIF(12, T, time_wise=True),
        nn.Linear(12, 8),
        sl.nn.Delay(8, 3),
        sl.nn.Recurrent(sl.CuLIF(3.0, 2.0, v_threshold=0.1), 8, into="i"),
        sl.LI(),
        sl.nn.Readout("mean"),
    )
    for layer in net.modules():
        if isinstance(layer, sl.Neuron):
            layer.backend = "eager"
    return net.eval()


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(T, B, 2, 8, 8, generator=torch.Generator().manual_seed(2)) * 2


def test_a_step_of_any_network_is_a_program_of_torch(frames: Tensor) -> None:
    net = mixed()
    stepped = StepForm(net, frames)
    assert stepped.states[:3] == ("2.v", "6.v", "6.clock")
    program = stepped.step_program().module()
    with torch.no_grad():
        states, course = stepped.at_rest(B), []
        for frame in frames:
            answer, *states = program(frame, *states)
            course.append(answer)
        assert torch.equal(stepped.read(torch.stack(course)), net(frames))
        assert torch.stack(course).std() > 0


@pytest.mark.parametrize("form", ["loop", pytest.param("step", marks=pytest.mark.slow)])
def test_onnx_gives_the_same_spikes(form: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript"), pytest.importorskip("onnxruntime")
    torch.manual_seed(3)
    net = sl.nn.Sequential(
        nn.Linear(6, 16),
        sl.LIF(v_threshold=0.2, backend="eager"),
        nn.Linear(16, 9),
        sl.AdLIF(3.0, v_threshold=0.1, backend="eager"),
    )
    example = torch.zeros(T, 1, 6)
    result = sl.export(net, "onnx", tmp_path / "net.onnx", form=form, example=example)  # type: ignore[arg-type]
    assert result.checked.startswith("onnxruntime: 4 of 4 made samples equal")
    assert [file.name for file in result.files] == ["net.onnx", "net.onnx.md"]


@NEEDS_COMPILER
def test_c_gives_the_same_output_for_layers_of_every_kind(frames: Tensor) -> None:
    net = mixed()
    code = c_source(net, frames)
    with torch.no_grad():
        outputs, scores = CNetwork(code)(frames)
        expected, answers = net[:-1](frames), net(frames)
    assert torch.allclose(outputs, expected, atol=1e-6)
    assert torch.allclose(scores, answers, atol=1e-6)
    with pytest.raises(ExportError, match="constants for fewer"):
        CNetwork(code)(torch.cat([frames, frames]))


class Side(nn.Module):
    """Neurons side by side on one input; their spikes are the bits of the output."""

    time_first = True

    def __init__(self) -> None:
        super().__init__()
        self.neurons = nn.ModuleList(
            [
                *(sl.IF(), sl.LIF(v_reset=-0.5, decay_input=False), sl.PLIF(v_reset=None)),
                *(sl.GLIF(6), sl.FusedGLIF(6), sl.AdLIF(3.0, shape=(6,)), sl.CuLIF(3.0, 2.0)),
                *(sl.PCuLIF(3.0, 2.0, delay=2), sl.ScaledIF(0.5), sl.ScaledLIF(0.5)),
            ]
        )
        for neuron in self.neurons:
            neuron.backend = "eager"

    def forward(self, x: Tensor) -> Tensor:
        return sum((n(x) * 2.0**i for i, n in enumerate(self.neurons)), torch.zeros(()))


@NEEDS_COMPILER
def test_c_gives_the_same_spikes_for_every_neuron_of_the_library() -> None:
    torch.manual_seed(0)
    net, x = Side().eval(), torch.rand(20, B, 6) * 3
    with torch.no_grad():
        expected = net(x)
        assert all(neuron(x).any() for neuron in net.neurons)
    outputs, _ = CNetwork(c_source(net, x))(x)
    assert torch.equal(outputs, expected)


def test_c_names_what_it_has_no_form_for() -> None:
    net = sl.nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), sl.LIF())
    with pytest.raises(ExportError, match=r"no C form for aten::_?softmax"):
        c_source(net, torch.zeros(T, 1, 4))


def test_a_run_is_exported_with_its_card_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    quiet = Console(file=io.StringIO())
    sl.train("plif/digits", out=run, console=quiet, epochs=1, channels=4, hidden=8, threads=1)
    out = tmp_path / "net.pt2"
    arguments = ["export", str(run), "--to", "torch", "--form", "step", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code, capsys.readouterr().err
    card = (tmp_path / "net.pt2.md").read_text()
    for words in ("accuracy-A", "CC BY 4.0", "nJ a sample", "[network]", "8 x 8", "samples equal"):
        assert words in card
    with pytest.raises(SystemExit):
        main(arguments)
    assert "net.pt2 exists already" in capsys.readouterr().err
    with pytest.raises(ExportError, match="form='loop'"):
        sl.export(run, "torch", form="loop")


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.parametrize("recipe", ["plif/digits", "glif/digits", "fs/digits-events"])
def test_trained_recipes_spike_alike_in_c_and_onnxruntime(recipe: str, tmp_path: Path) -> None:
    from benchmarks.export import agreement

    run = tmp_path / "run"
    sl.train(recipe, out=run, console=Console(file=io.StringIO()), epochs=1, threads=1)
    for runtime, found in agreement(run).items():
        assert found.near >= 0.9 * found.samples, (runtime, found)
        assert found.labels >= 0.99 * found.samples, (runtime, found)
