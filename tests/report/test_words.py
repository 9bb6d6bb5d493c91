"""Numbers as people read them, and small pictures."""

import pytest
import torch

from spikeloom.report import words
from spikeloom.report.pictures import picture


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 pJ"), (12.34, "12.3 pJ"), (1234567, "1.23 µJ"), (9e16, "9e+04 J")],
)
def test_energy_in_readable_units(value, text):
    assert words.energy(value) == text


def test_numbers_as_people_read_them():
    assert [words.count(v) for v in (None, 0, 9999, 12345, 13198980, 2.5e9)] == [
        words.NOTHING,
        "0",
        "9,999",
        "12.3 k",
        "13.2 M",
        "2.5 G",
    ]
    assert (words.percent(0.98607), words.percent(None)) == ("98.61 %", words.NOTHING)
    assert [words.points(v) for v in (-1.09, 0.001, 2)] == [
        "1.09 points below",
        "equal",
        "2.00 points above",
    ]


def test_pictures_of_images_and_event_frames():
    assert picture(torch.zeros(1, 8, 8, dtype=torch.uint8)).startswith("data:image/png")
    assert picture(torch.zeros(3, 8, 8, dtype=torch.uint8)).startswith("data:image/png")
    frames = torch.zeros(4, 2, 8, 8)
    frames[:, 0, :4] = 3
    assert picture(frames).startswith("data:image/png")
    assert picture(torch.zeros(100, 700)) == ""
