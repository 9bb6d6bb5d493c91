"""Integration of events into frames: what holds for any recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import event_files as make
from spikeloom.data.events.array import Events, events, spikes
from spikeloom.data.events.frames import Framing, integrate
from spikeloom.errors import DataError

SIZE = (2, 3, 5)


@st.composite
def recordings(draw, ordered: bool = False) -> Events:
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 400), st.integers(0, 4), st.integers(0, 2), st.integers(0, 1)),
            max_size=60,
        )
    )
    if ordered:
        rows.sort(key=lambda row: row[0])
    table = np.array(rows, np.int64).reshape(-1, 4)
    return events(*table.T, size=SIZE)


def _slow(recording: Events, framing: Framing) -> np.ndarray:
    """The specification, event by event."""
    out = np.zeros(framing.shape(recording.size), np.int64)
    count, T = len(recording), framing.T
    begin = int(recording.t.min()) if count else 0
    width = max((int(recording.t.max()) - begin) // T, 1) if count else 1
    for i in range(count):
        t = int(recording.t[i])
        if framing.by == "number":
            share = count // T
            j = min(i // share, T - 1) if share else T - 1
        elif framing.by == "time":
            j = min((t - begin) // width, T - 1)
        else:
            origin = begin if framing.origin == "first" else framing.origin
            j = (t - origin) // framing.dt
            if not 0 <= j < T:
                continue
        rows, columns = framing.downsample
        out[j, recording.p[i], recording.y[i] // rows, recording.x[i] // columns] += 1
    return (out > 0).astype(np.int64) if framing.binary else out


@given(
    recordings(),
    st.integers(1, 7),
    st.sampled_from(["number", "time", "window"]),
    st.sampled_from(["first", 0, 90]),
    st.integers(0, 2),
    st.sampled_from([(1, 1), (2, 2), (1, 3)]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_frames_are_those_of_the_loop_over_events(
    recording, T, by, origin, empty, downsample, binary
) -> None:
    window = {"dt": 37, "origin": origin} if by == "window" else {}
    framing = Framing(T, by, empty=empty, downsample=downsample, binary=binary, **window)
    assert np.array_equal(integrate(recording, framing).counts, _slow(recording, framing))


@given(recordings(), st.integers(1, 9), st.sampled_from(["number", "time"]))
@settings(deadline=None)
def test_every_event_is_counted_once(recording, T, by) -> None:
    frames = integrate(recording, Framing(T, by))
    assert frames.counts.sum() == len(recording)
    assert (frames.durations >= 1).all()


@given(recordings(ordered=True), st.integers(1, 5))
@settings(deadline=None)
def test_order_of_the_file_does_not_matter_by_time(recording, T) -> None:
    backwards = recording.where(slice(None, None, -1))
    one, other = (integrate(r, Framing(T, "time")).counts for r in (recording, backwards))
    assert np.array_equal(one, other)


@given(recordings(), st.integers(0, 450), st.integers(0, 450))
@settings(deadline=None)
def test_selection_is_half_open_in_any_order(recording, start, stop) -> None:
    cut = recording.between(start, stop)
    expected = [row for row in recording.table().tolist() if start <= row[0] < stop]
    assert cut.table().tolist() == expected


@pytest.mark.parametrize("by", ["number", "time", "window"])
def test_an_empty_recording_gives_empty_frames(by) -> None:
    framing = Framing(4, by, dt=10 if by == "window" else 0)
    frames = integrate(make.nothing(SIZE), framing)
    assert frames.counts.shape == (4, *SIZE) and not frames.counts.any()
    assert (frames.durations > 0).all()


@pytest.mark.parametrize(
    ("count", "kind"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)]
)
def test_counts_never_wrap(count: int, kind) -> None:
    zeros = np.zeros(count, np.int64)
    counts = integrate(events(zeros, zeros, zeros, zeros, (2, 1, 1)), Framing(1)).counts
    assert counts.dtype == kind and int(counts.max()) == count


def test_the_horizon_is_that_of_the_recordings_own_clock() -> None:
    recording = spikes([50, 90, 120], [0, 0, 0], 1)
    whole = integrate(recording, Framing(2, "window", 50)).counts.ravel().tolist()
    cut = integrate(recording, Framing(2, "window", 50, horizon=True)).counts.ravel().tolist()
    assert whole == [2, 1] and cut == [2, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"T": 0},
        {"T": 2, "by": "second"},
        {"T": 2, "by": "window"},
        {"T": 2, "by": "time", "dt": 5},
        {"T": 2, "empty": -1},
        {"T": 2, "downsample": (0, 1)},
    ],
)
def test_impossible_framings_are_refused(options) -> None:
    with pytest.raises(DataError):
        Framing(**options)


def test_absurd_frames_are_refused_before_they_are_allocated() -> None:
    with pytest.raises(DataError, match="fewer frames"):
        integrate(make.nothing((2, 1000, 1000)), Framing(1_000_000))


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (([0], [5], [0], [0]), "record 0 has x = 5"),
        (([0, 1], [0, 0], [0, -1], [0, 0]), "record 1 has y = -1"),
        (([0], [0], [0], [2]), "record 0 has p = 2"),
        (([0.5, np.nan], [0, 0], [0, 0], [0, 0]), "record 1 has time nan"),
        (([0], [0, 1], [0], [0]), "column x"),
    ],
)
def test_events_outside_the_sensor_are_named(columns, text: str) -> None:
    with pytest.raises(DataError, match=text):
        events(*columns, size=SIZE, source="a file")
