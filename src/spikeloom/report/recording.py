"""A recording as a picture: its frames in a strip, its events over time, and an animation."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.array import Events
from spikeloom.data.events.frames import Framing, integrate
from spikeloom.data.registry import source
from spikeloom.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OFF, ON = (33, 102, 172), (178, 24, 43)
"""Blue and red, told apart by the colour-blind too."""

MOST_DOTS = 20_000  # events in a raster; more are drawn as an even sample
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """What `show` wrote, and one line about the recording."""

    picture: Path
    animation: Path
    text: str


def show(
    name: str,
    index: int = 0,
    *,
    split: str = "train",
    root: Path | None = None,
    output: Path | None = None,
    framing: Framing | None = None,
) -> Shown:
    """Write `<name>-<split>-<index>.png` and `.gif` of a recording into the folder `output` (here).

    Raises `DataError` if the data set has no recordings or the split no such index.
    """
    events = source(name).events
    if events is None:
        raise DataError(f"{name} holds images, no recordings; choose an event data set")
    if split not in ("train", "test"):
        raise DataError(f"split {split!r}: give train or test")
    pair = events.open(root)
    recordings = pair.train if split == "train" else pair.test
    count = len(recordings.labels)
    if not 0 <= index < count:
        raise DataError(f"{name} {split} has recordings 0 to {count - 1}, there is no {index}")
    recording = recordings.read(index)
    label = events.class_names(pair)[int(recordings.labels[index])]
    text = (
        f"{name} {split} {index}: {label}, {len(recording):,} events in "
        f"{recording.duration / 1000:.0f} ms ({recordings.title(index)})"
    )
    folder = output or Path()
    cut: Framing = framing or events.framing
    paths = [folder / f"{name}-{split}-{index}.{kind}" for kind in ("png", "gif")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure = picture(recording, cut, f"{name} {split} {index}: {label}")
        figure.savefig(paths[0], dpi=110)
        save_animation(recording, cut, paths[1])
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); give another folder"
        ) from error
    return Shown(paths[0], paths[1], text)


def picture(recording: Events, framing: Framing, title: str) -> "Figure":
    """Frames in a strip above the raster of events, time in milliseconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.4), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.5))
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    figure.suptitle(title)
    _strip(upper, recording, framing)
    axes = lower.subplots()
    t = (recording.t - recording.t.min()) / 1000 if len(recording) else recording.t
    pixel = recording.y.astype(np.int64) * recording.size[2] + recording.x
    rows = np.linspace(0, len(recording) - 1, min(len(recording), MOST_DOTS)).astype(np.int64)
    polarities = recording.size[0]
    for p in range(polarities):
        some = rows[recording.p[rows] == p]
        colour = "#%02x%02x%02x" % (ON if p or polarities == 1 else OFF)
        label = ("OFF", "ON")[p] if polarities == 2 else None
        axes.plot(t[some], pixel[some], ".", color=colour, ms=2, alpha=0.6, label=label)
    axes.set_xlabel("time [ms]")
    axes.set_ylabel("channel" if recording.size[1] == 1 else "pixel (row by row)")
    axes.set_ylim(-1, recording.size[1] * recording.size[2])
    if polarities == 2:
        axes.legend(loc="upper right", markerscale=5, frameon=True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def save_animation(recording: Events, framing: Framing, path: Path) -> None:
    """The recording as a GIF: frame after frame, or a cochlea's channels filling up over time."""
    from PIL import Image as pillow

    images = (
        _filling(recording, framing)
        if recording.size[1] == 1
        else _frame_images(recording, framing)
    )
    scale = max(1, 256 // max(images[0].shape[:2]))
    pictures = [
        pillow.fromarray(image).resize(
            (image.shape[1] * scale, image.shape[0] * scale), pillow.Resampling.NEAREST
        )
        for image in images
    ]
    # all frames in two seconds, none shorter than browsers show
    wait = max(2000 // len(pictures), 20)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=wait, loop=0)


def coloured(counts: npt.NDArray[np.unsignedinteger], brightest: float) -> Image:
    """Counts `[P, H, W]` as a picture `[H, W, 3]`: white without events, red for ON, blue for
    OFF.
    """
    shares = np.minimum(counts / max(brightest, 1), 1) ** 0.5
    colours = np.array((ON,) if len(counts) == 1 else (OFF, ON), np.float64)
    ink = np.einsum("phw,pc->hwc", shares, 255 - colours)
    return (255 - np.minimum(ink, 255)).astype(np.uint8)


def _frame_images(recording: Events, framing: Framing) -> list[Image]:
    counts = integrate(recording, framing).counts[: framing.T]
    return [coloured(frame, _brightest(counts)) for frame in counts]


def _filling(recording: Events, framing: Framing) -> list[Image]:
    """Pictures [channels, T] that show what was heard until then."""
    counts = integrate(recording, framing).counts[: framing.T, :, 0]  # [T, P, channels]
    whole = counts.transpose(1, 2, 0)[:, ::-1]
    steps = np.unique(np.linspace(1, framing.T, min(framing.T, 50)).astype(np.int64))
    brightest = _brightest(counts)
    images = [coloured(np.where(np.arange(framing.T) < end, whole, 0), brightest) for end in steps]
    # a time step as wide as the picture needs to be about square
    return [np.repeat(image, max(1, whole.shape[1] // framing.T), axis=1) for image in images]


def _strip(figure, recording: Events, framing: Framing) -> None:
    if recording.size[1] == 1:
        axes = figure.subplots()
        axes.imshow(_filling(recording, framing)[-1], aspect="auto", interpolation="nearest")
        axes.set_ylabel("channel")
        axes.set_yticks([])
        axes.set_xticks([])
        axes.set_title(f"{framing.T} frames", fontsize=9)
        return
    shown = min(framing.T, 10)
    images = _frame_images(recording, framing)
    chosen = np.linspace(0, framing.T - 1, shown).astype(np.int64)
    for axes, frame in zip(np.atleast_1d(figure.subplots(1, shown)), chosen, strict=True):
        axes.imshow(images[frame], interpolation="nearest")
        axes.set_title(f"frame {frame}", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])


def _brightest(counts: npt.NDArray[np.unsignedinteger]) -> float:
    """The count that gets full colour: one in a hundred active cells is above it."""
    active = counts[counts > 0]
    return float(np.quantile(active, 0.99)) if active.size else 1.0
