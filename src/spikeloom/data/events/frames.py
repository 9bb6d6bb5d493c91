"""Events to frames: counts `[T, P, H, W]` of the events of each frame, polarity and pixel.

    F[j, p, y, x] = number of events of slice j at that pixel and polarity

Three ways to cut a recording of E events into T slices:

- by number: slice j holds events `[j D, (j+1) D)`, D = E // T; the remainder goes to the last
  slice.
- by time: `d = (t_last - t_first) // T`; slice j holds `[j d, (j+1) d)` after t_first; all later
  events go to the last slice.
- by window: slice j holds `[origin + j dt, origin + (j+1) dt)`; events outside all T windows are
  dropped.

Sources: Fang et al. 2021 (number, time; their code on SpikingJelly 73f94ab), the first-spike
paper's `events_timeslices.py` (window). Counts are exact and never wrap: the smallest unsigned type
that holds the largest count is used.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events, is_sorted
from spikeloom.errors import ConfigError, DataError

if TYPE_CHECKING:
    from spikeloom.config.data import FramesConfig

By = Literal["number", "time", "window"]
LARGEST_FRAMES = 1 << 31  # cells of one sample; more are a mistyped option, not a recording


@dataclass(frozen=True)
class Framing:
    """How a recording becomes T frames; everything that the counts depend on.

    T          frames with events
    by         "number", "time", or "window" (see the module)
    dt         width of a window in microseconds (window only)
    origin     start of window 0: "first" = at the first event, or a time in microseconds
    horizon    only events before T dt on the recording's own clock count (window only). The
               first-spike code selects [0, T dt) BEFORE it moves the first event to 0, so late
               starters lose their end.
    empty      zero frames appended after the T frames
    downsample rows and columns of the block of pixels whose counts add up to one
    binary     1 where a count is positive
    """

    T: int
    by: By = "number"
    dt: int = 0
    origin: Literal["first"] | int = "first"
    horizon: bool = False
    empty: int = 0
    downsample: tuple[int, int] = (1, 1)
    binary: bool = False

    def __post_init__(self) -> None:
        if self.T < 1 or self.empty < 0 or min(self.downsample) < 1:
            raise DataError(
                f"T = {self.T}, empty = {self.empty}, downsample = {self.downsample}: "
                "expected T >= 1, empty >= 0, downsample >= 1"
            )
        if self.by not in ("number", "time", "window"):
            raise DataError(f"frames by {self.by!r}: expected number, time or window")
        if (self.by == "window") != (self.dt > 0):
            raise DataError(
                f"frames by {self.by} with dt = {self.dt} us: a window needs dt > 0, and only a "
                "window has dt"
            )

    @property
    def steps(self) -> int:
        """Frames of a sample: T and the empty ones."""
        return self.T + self.empty

    def shape(self, size: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """`[T, P, H, W]` for a sensor of `size`; a rest below a block is a row of its own."""
        polarities, height, width = size
        rows, columns = self.downsample
        return self.steps, polarities, -(-height // rows), -(-width // columns)


def make_framing(config: "FramesConfig", usual: Framing, steps: int | None) -> Framing:
    """`usual` with what `config` changes, for a network of `steps` time steps (None: as usual)."""
    empty = usual.empty if config.empty is None else config.empty
    total = usual.steps if steps is None else steps
    if total <= empty:
        raise ConfigError(
            f"network.T = {total} with data.frames.empty = {empty}: no frame is left for the "
            f"events; give T above {empty}"
        )
    if config.choose is not None and config.choose > total:
        raise ConfigError(
            f"data.frames.choose = {config.choose} of network.T = {total} frames: give {total} or "
            "less"
        )
    by = config.by or usual.by
    windows = by == "window"
    for key, value in (("dt", config.dt), ("begin", config.begin), ("horizon", config.horizon)):
        if value is not None and not windows:
            raise ConfigError(
                f"data.frames.{key} has no effect on frames by {by}: remove it or set by = window"
            )
    if windows and not (usual.dt or config.dt):
        raise ConfigError("data.frames.by = window needs data.frames.dt, a window's milliseconds")
    if not windows:
        usual = replace(usual, by=by, dt=0, origin="first", horizon=False)
    changes: dict[str, Any] = {
        "dt": None if config.dt is None else round(config.dt * 1000),
        "origin": None if config.begin is None else "first" if config.begin == "first" else 0,
        "horizon": config.horizon,
        "downsample": None if config.downsample is None else (config.downsample,) * 2,
        "binary": config.binary,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(usual, T=total - empty, by=by, empty=empty, **given)


@dataclass(frozen=True, eq=False)
class Frames:
    """Counts `[T, P, H, W]` (uint8, uint16 or uint32) and the time that each frame stands for.

    `durations` float64 [T] in microseconds, at least 1: what a count is divided by to become a
    frequency. Of the recording's `total` events, `counted` fell into a frame.
    """

    counts: npt.NDArray[np.unsignedinteger]
    durations: npt.NDArray[np.float64]
    total: int = 0
    counted: int = 0
    in_order: bool = True


def integrate(recording: Events, framing: Framing) -> Frames:
    """Count the events of a recording into frames with one `bincount`.

    An empty recording gives zero frames. A recording shorter than T microseconds cut by time has
    slices of one microsecond: every event is counted, none is lost. By number, events are taken in
    the order of the recording, as the published programs do.
    """
    shape = framing.shape(recording.size)
    cells, durations = _place(recording, framing)
    counts = np.bincount(cells, minlength=int(np.prod(shape)))
    if framing.binary:
        counts = np.minimum(counts, 1)
    counts = counts.astype(np.min_scalar_type(counts.max(initial=0)))
    in_order = is_sorted(recording.t)
    return Frames(counts.reshape(shape), durations, len(recording), len(cells), in_order)


def _place(
    recording: Events, framing: Framing
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The flat cell of each event that counts, and the durations of all frames."""
    shape = framing.shape(recording.size)
    if int(np.prod(shape, dtype=np.float64)) > LARGEST_FRAMES:
        raise DataError(
            f"frames of shape {shape} have more than {LARGEST_FRAMES} cells; "
            "give fewer frames (T) or downsample"
        )
    if framing.by == "window":
        recording, frame, durations = _windows(recording, framing)
    elif framing.by == "time":
        frame, durations = _by_time(recording.t, framing.T)
    else:
        frame, durations = _by_number(recording.t, framing.T)
    rows, columns = framing.downsample
    _, polarities, height, width = shape
    cells = frame  # used up: in place, since a recording may have millions of events
    if polarities > 1:
        cells *= polarities
        cells += recording.p
    if height > 1:
        cells *= height
        cells += recording.y if rows == 1 else recording.y // rows
    cells *= width
    cells += recording.x if columns == 1 else recording.x // columns
    return cells, np.concatenate([durations, np.ones(framing.empty)])


def _by_number(t: npt.NDArray[np.int64], T: int):
    """Frame of every event and duration of every frame."""
    edges = np.arange(T + 1, dtype=np.int64) * (len(t) // T)
    edges[-1] = len(t)
    durations = np.ones(T)
    if len(t):
        # frame j lasts until the first event of frame j + 1, the last one until its own last event.
        # The published program reads one past the end there and fails; equal times count as one
        # microsecond.
        begin = t[np.minimum(edges[:-1], len(t) - 1)]
        durations = np.maximum(np.append(begin[1:], t[-1]) - begin, 1).astype(np.float64)
    return np.repeat(np.arange(T, dtype=np.int64), np.diff(edges)), durations


def _by_time(t: npt.NDArray[np.int64], T: int):
    if not len(t):
        return np.zeros(0, np.int64), np.ones(T)
    start, stop = int(t.min()), int(t.max())
    width = max((stop - start) // T, 1)
    durations = np.full(T, width, np.float64)
    durations[-1] = max(stop - start - (T - 1) * width, 1)
    return np.minimum((t - start) // width, T - 1), durations


def _windows(recording: Events, framing: Framing):
    span = framing.T * framing.dt
    durations = np.full(framing.T, framing.dt, np.float64)
    if framing.horizon:
        recording = recording.between(0, span)
    if framing.origin != "first":
        start = framing.origin
    else:
        start = int(recording.t.min()) if len(recording) else 0
    recording = recording.between(start, start + span)
    return recording, (recording.t - start) // framing.dt, durations
