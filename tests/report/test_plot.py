"""Figures on matplotlib axes, and as inline SVG in the colours of a page."""

import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator

import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spikeloom import plot
from spikeloom.analysis.operations import LayerOperations, Operations
from spikeloom.analysis.traces import LayerTrace
from spikeloom.errors import ConfigError
from spikeloom.plot.lines import Line, accuracy_floor, curves
from spikeloom.plot.neurons import firing_neurons, telling_neurons
from spikeloom.plot.style import BLUE, palette
from spikeloom.plot.words import constant_words

SPIKES = torch.rand(6, 200, generator=torch.Generator().manual_seed(0)) < 0.1


@pytest.fixture(autouse=True)
def no_figure_stays() -> Iterator[None]:
    yield
    pyplot.close("all")


def draw(function: Callable[[Axes], object], describe: str = "") -> str:
    ax = Figure(figsize=(4, 3), layout="constrained").add_subplot()
    function(ax)
    return plot.svg(ax, describe)


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="svg" ', 1))


def texts(text: str) -> list[str]:
    return ["".join(element.itertext()) for element in parse(text).iter("{svg}text")]


def drawn(lines: list[Line], describe: str = "", **options: object) -> str:
    return draw(lambda ax: curves(lines, ax=ax, **{"y": "value", **options}), describe)  # type: ignore[arg-type]


def trace(spikes: torch.Tensor, potential: torch.Tensor) -> LayerTrace:
    records = {"v": potential * ~spikes, "h": potential}
    return LayerTrace("layer", spikes, records, (spikes.shape[1],), 0.0, 1.0)


def test_a_figure_takes_all_its_colours_from_the_page():
    line = Line("a", [0, 1, 2], [1.0, 2.0, 3.0], BLUE, low=[0, 1, 2], high=[2, 3, 4])
    text = drawn([line], "a <b>", reference=(2.5, "level"), mark=(1, 2))
    assert "var(--c1)" in text and "var(--grid)" in text
    assert not re.search(r"#[0-9a-fA-F]{6}\b", re.sub(r'(href="|url\()#[\w-]+', "", text))
    assert parse(text).get("aria-label") == "a <b>"
    assert "level" in texts(text) and "value" in texts(text)


def test_ids_of_different_figures_differ_and_equal_figures_are_equal():
    lines = [Line("a", [0, 1], [1.0, 2.0], BLUE)]
    one, same, other = (drawn(lines, describe) for describe in ("one", "one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    assert one == same


def test_a_logarithmic_axis_is_used_only_where_it_helps():
    wide = Line("a", [0, 1], [1.5, 55.0], BLUE)
    assert {"2", "5", "10", "20", "50"} <= set(texts(drawn([wide], log=True)))
    narrow = Line("a", [0, 1], [1.5, 2.0], BLUE)
    assert "1.6" in texts(drawn([narrow], log=True))
    silent = Line("a", [0, 1], [0.0, 50.0], BLUE)
    assert "0" in texts(drawn([silent], log=True))


def test_a_constant_is_drawn_as_one():
    ax = curves([Line("loss", [0, 1, 2], [0.1, 0.1001, 0.1], BLUE)], y="loss")
    low, high = ax.get_ylim()
    assert high - low > 0.015


def test_the_accuracy_axis_shows_the_part_that_matters():
    good = Line("a", range(10), [0.2, 0.5, 0.9, 0.97, 0.98, 0.98, 0.98, 0.98, 0.98, 0.985], BLUE)
    floor = accuracy_floor([good])
    assert floor is not None and 0.8 < floor < 0.9
    poor = Line("b", range(10), [0.1] * 10, BLUE)
    assert accuracy_floor([poor]) is None
    assert accuracy_floor([good, poor]) is None  # nothing that is compared falls out of sight


def test_values_behind_curves_do_not_touch():
    lines = [Line(str(i), [0, 1], [1.0, 2 + i / 1000], BLUE) for i in range(8)]
    places = []
    for element in parse(drawn(lines, ends=lambda value: f"end {value:.3f}")).iter("{svg}text"):
        if "".join(element.itertext()).startswith("end"):
            transform = element.get("transform", "")
            match = re.search(r"translate\([\d.]+ ([\d.]+)\)", transform)
            places.append(float(match[1] if match else element.get("y", "nan")))
    places.sort()
    assert len(places) == 8
    assert min(b - a for a, b in itertools.pairwise(places)) > 7  # points


def test_curves_that_end_alike_share_a_label():
    lines = [Line(str(i), [0, 1], [1.0, 2.0], colour) for i, colour in enumerate(palette(3))]
    assert texts(drawn(lines, ends=lambda value: f"end {value:g}")).count("end 2") == 1


def test_long_curves_are_thinned_to_their_last_point():
    line = Line("a", range(1000), [float(i) for i in range(1000)], "c", low=range(1000))
    thin = line.thinned(300)
    assert len(thin.x) <= 301 and thin.x[-1] == 999 and thin.low[-1] == 999 and not thin.high
    assert line.thinned(1000) is line


def test_series_have_distinct_colours():
    for count in (1, 8, 9, 30):
        assert len(set(palette(count))) == count


def test_a_raster_has_a_block_for_every_spike_shown():
    shown = firing_neurons(SPIKES, 40)
    assert len(shown) == len(set(shown)) == 40
    assert all(SPIKES[:, neuron].any() for neuron in shown)
    text = draw(lambda ax: plot.raster(SPIKES, most=40, ax=ax))
    blocks = max(path.get("d", "").count("z") for path in parse(text).iter("{svg}path"))
    assert blocks == int(SPIKES[:, shown].sum())


def test_a_silent_layer_says_so():
    layer = trace(torch.zeros(4, 3, dtype=torch.bool), torch.tensor([[0.1, 0.9, 0.2]] * 4))
    assert "no neuron fires" in texts(draw(lambda ax: plot.raster(layer, ax=ax)))
    assert telling_neurons(layer) == [1]
    assert len(plot.membrane(layer).get_lines()) == 3  # a potential, its spikes, the threshold


def test_telling_neurons_are_a_typical_and_the_highest_silent_one():
    spikes = torch.zeros(5, 4, dtype=torch.bool)
    spikes[:, 0] = True
    spikes[:3, 1] = True
    spikes[0, 2] = True
    potential = torch.full((5, 4), 0.5)
    assert telling_neurons(trace(spikes, potential)) == [1, 3]
    everything = torch.ones(5, 2, dtype=torch.bool)
    assert telling_neurons(trace(everything, torch.ones(5, 2))) == [0]


def test_output_spikes_of_a_silent_sample_say_so():
    text = draw(lambda ax: plot.output_raster([(torch.zeros(4, 3), 1)], ["a", "b", "c"], ax=ax))
    assert "no output neuron fires" in texts(text)


def test_every_measure_is_drawn_on_axes_of_its_own():
    layer = LayerOperations("conv", "conv", 100, 4.0, 40.0, 0.0)
    made = [
        plot.rates({"a": 0.1, "b": 0.0}),
        plot.confusion([[9, 1], [0, 10]], ["cat", "automobile"]),
        plot.latency([0.5, 0.9], trained_at=2),
        plot.latency({1: 0.5, 16: 0.9}),
        plot.energy(Operations((layer,), 1)),
        plot.tradeoff([("a", 10.0, 0.9, 1.0, BLUE), ("b", 200.0, 0.95, None, BLUE)]),
        plot.raster(SPIKES),
    ]
    assert all(isinstance(ax, Axes) for ax in made) and len({id(ax) for ax in made}) == len(made)
    assert "automobile" in [label.get_text() for label in made[1].get_yticklabels()]


def test_a_run_is_drawn_from_its_folder(make_run):
    folder = make_run(epochs=4, spread=0.1)
    assert len(plot.rates(folder).get_lines()) == 4
    assert len(plot.constants(str(folder)).get_lines()) == 4
    with pytest.raises(ConfigError, match="no constant 'taw'; it has tau"):
        plot.constants(folder, "taw")


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ConfigError, match="no votes per time step"):
        plot.latency([])
    with pytest.raises(ValueError, match="square"):
        plot.confusion([[1, 2, 3]])
    with pytest.raises(ValueError, match=r"expected a tensor \[T, N\]"):
        plot.raster(torch.zeros(3))


def test_a_report_needs_no_window(make_run):
    """pyplot keeps figures for ever and may want a display: only a caller's own figure needs it."""
    code = (
        "import sys; from spikeloom import report; report.write([sys.argv[1]]);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(make_run(epochs=2))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_constants_have_words_of_their_own():
    assert constant_words("tau").unit == "time steps"
    assert constant_words("decay").title != constant_words("tau").title
    assert constant_words("zeta").title == "Constant zeta"
