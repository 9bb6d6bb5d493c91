"""Figures as inline SVG, and numbers as people read them."""

import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from spikeloom.analysis.traces import LayerTrace
from spikeloom.report import html, svg
from spikeloom.report.confusion_section import confusion
from spikeloom.report.figures import (
    Line,
    curves,
    potentials,
    raster,
    shown_neurons,
    telling_neurons,
)
from spikeloom.report.pictures import picture


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="svg" ', 1))


def texts(text: str) -> list[str]:
    return ["".join(element.itertext()) for element in parse(text).iter("{svg}text")]


def trace(spikes: torch.Tensor, potential: torch.Tensor) -> LayerTrace:
    records = {"v": potential * ~spikes, "h": potential}
    return LayerTrace("layer", spikes, records, (spikes.shape[1],), 0.0, 1.0)


def test_a_figure_takes_all_its_colours_from_the_page():
    line = Line("a", [0, 1, 2], [1.0, 2.0, 3.0], "var(--c1)", low=[0, 1, 2], high=[2, 3, 4])
    drawn = curves([line], describe="a <b>", y="value", level=(2.5, "level"), mark=(1, 2))
    assert "var(--c1)" in drawn and "var(--grid)" in drawn
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", re.sub(r'(href="|url\()#[\w-]+', "", drawn))
    assert parse(drawn).get("aria-label") == "a <b>"
    assert "level" in texts(drawn) and "value" in texts(drawn)
    assert "matplotlib.pyplot" not in sys.modules


def test_ids_of_different_figures_differ_and_equal_figures_are_equal():
    lines = [Line("a", [0, 1], [1.0, 2.0], "var(--c1)")]
    one, same, other = (curves(lines, describe=d, y="y") for d in ("one", "one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn)) for drawn in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    assert one == same


def test_a_logarithmic_axis_is_used_only_where_it_helps():
    wide = Line("a", [0, 1], [1.5, 55.0], "var(--c1)")
    assert {"2", "5", "10", "20", "50"} <= set(texts(curves([wide], describe="", y="", log=True)))
    narrow = Line("a", [0, 1], [1.5, 2.0], "var(--c1)")
    assert "1.6" in texts(curves([narrow], describe="", y="", log=True))
    silent = Line("a", [0, 1], [0.0, 50.0], "var(--c1)")
    assert "0" in texts(curves([silent], describe="", y="", log=True))


def test_values_behind_curves_do_not_touch():
    lines = [Line(str(i), [0, 1], [1.0, 2 + i / 1000], "var(--c1)") for i in range(8)]
    drawn = parse(curves(lines, describe="", y="", ends=lambda value: f"end {value:.3f}"))
    places = []
    for element in drawn.iter("{svg}text"):
        if "".join(element.itertext()).startswith("end"):
            transform = element.get("transform", "")
            match = re.search(r"translate\([\d.]+ ([\d.]+)\)", transform)
            places.append(float(match[1] if match else element.get("y", "nan")))
    places.sort()
    assert len(places) == 8
    assert min(b - a for a, b in itertools.pairwise(places)) > 7  # points


def test_curves_that_end_alike_share_a_label():
    lines = [Line(str(i), [0, 1], [1.0, 2.0], f"var(--c{i})") for i in (1, 2, 3)]
    drawn = curves(lines, describe="", y="", ends=lambda value: f"end {value:g}")
    assert texts(drawn).count("end 2") == 1


def test_long_curves_are_thinned_to_their_last_point():
    line = Line("a", range(1000), [float(i) for i in range(1000)], "c", low=range(1000))
    thin = line.thinned(300)
    assert len(thin.x) <= 301 and thin.x[-1] == 999 and thin.low[-1] == 999 and not thin.high
    assert line.thinned(1000) is line


def test_series_have_distinct_colours():
    for count in (1, 8, 9, 30):
        assert len(set(svg.palette(count))) == count


def test_a_raster_has_a_block_for_every_spike_shown():
    spikes = torch.rand(6, 200, generator=torch.Generator().manual_seed(0)) < 0.1
    layer = trace(spikes, torch.zeros(6, 200))
    shown = shown_neurons(layer, 40)
    assert len(shown) == len(set(shown)) == 40
    assert all(spikes[:, neuron].any() for neuron in shown)
    blocks = max(
        path.get("d", "").count("z")
        for path in parse(raster(layer, "c", most=40)).iter("{svg}path")
    )
    assert blocks == int(spikes[:, shown].sum())


def test_a_silent_layer_says_so():
    layer = trace(torch.zeros(4, 3, dtype=torch.bool), torch.tensor([[0.1, 0.9, 0.2]] * 4))
    assert "no neuron fires" in texts(raster(layer, "c"))
    assert telling_neurons(layer) == [1]
    assert parse(potentials(layer, [1], ["c"])) is not None


def test_telling_neurons_are_a_typical_and_the_highest_silent_one():
    spikes = torch.zeros(5, 4, dtype=torch.bool)
    spikes[:, 0] = True
    spikes[:3, 1] = True
    spikes[0, 2] = True
    potential = torch.full((5, 4), 0.5)
    assert telling_neurons(trace(spikes, potential)) == [1, 3]
    everything = torch.ones(5, 2, dtype=torch.bool)
    assert telling_neurons(trace(everything, torch.ones(5, 2))) == [0]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0 pJ"), (12.34, "12.3 pJ"), (1234567, "1.23 µJ"), (9e16, "9e+04 J")],
)
def test_energy_in_readable_units(value, words):
    assert html.energy(value) == words


def test_numbers_as_people_read_them():
    assert [html.count(v) for v in (None, 0, 9999, 12345, 13198980, 2.5e9)] == [
        html.NOTHING,
        "0",
        "9,999",
        "12.3 k",
        "13.2 M",
        "2.5 G",
    ]
    assert [html.duration(v) for v in (3.21, 75, 7260)] == ["3.2 s", "1 min 15 s", "2 h 01 min"]
    assert (html.percent(0.98607), html.percent(None)) == ("98.61 %", html.NOTHING)


def test_text_is_escaped_once_and_markup_never():
    assert html.tag("p", "<b>", html.tag("i", '"&"'), title='"') == (
        '<p title="&quot;">&lt;b&gt;<i>&quot;&amp;&quot;</i></p>'
    )


def test_pictures_of_images_and_event_frames():
    assert "data:image/png" in picture(torch.zeros(1, 8, 8, dtype=torch.uint8))
    assert "data:image/png" in picture(torch.zeros(3, 8, 8, dtype=torch.uint8))
    frames = torch.zeros(4, 2, 8, 8)
    frames[:, 0, :4] = 3
    assert "data:image/png" in picture(frames)
    assert picture(torch.zeros(100, 700)) == ""


def test_confusion_as_a_table_or_for_many_classes_as_an_image():
    small = confusion([[9, 1], [0, 10]], ["cat", "automobile"])
    assert "taken for" in small and "1 of 20 samples are wrong" in small
    assert 'class="up"' in small
    many = confusion([[int(i == j) for j in range(40)] for i in range(40)], [])
    assert "data:image/png" in many and "0 of 40 samples are wrong" in many
    assert confusion((), ["a"]) == ""
