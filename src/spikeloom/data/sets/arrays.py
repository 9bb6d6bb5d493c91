"""Arrays of one's own: `data=arrays data.root=FILE.npz` (or .npy with `options.labels`).

    x  images [N, H, W], [N, H, W, C] or [N, C, H, W], or series [N, T, C] or [N, T] (vibration,
       heart beats, motion); names x, X, data, images, series, inputs
    y  labels [N]: whole numbers or texts; or real numbers [N] or [N, K], the K targets of a
       regression; names y, Y, labels, targets
    x_train, y_train, x_test, y_test in place of them, where they are divided already

8-bit arrays of three axes are images, others series, unless `kind` tells. Images of 16 bits, and
of floats in 0..1, are scaled to 8 bits. A series becomes `T` time steps (`network.T`): each is the
mean of its part, which keeps what is too fast for them from coming back as something slow.

encoding  current: the means, less the training data's mean and over its deviation, per channel;
          delta: how often a channel rose and fell by `threshold` deviations since it last told,
          2 C channels of counts; none: the means as they are
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikeloom.config.data import DataConfig
from spikeloom.data.api import Accept, Source, candidates
from spikeloom.data.base import DataSet, DataSpec, TensorSplit
from spikeloom.data.files.archive import first_line
from spikeloom.data.files.classes import drawn, number
from spikeloom.errors import DataError

Array = npt.NDArray[Any]

_X = ("x", "X", "data", "images", "series", "inputs", "samples")
_Y = ("y", "Y", "labels", "targets", "label", "target")
_LONGEST = 1000  # time steps of a series whose network has none


class SeriesSplit(TensorSplit):
    """Series held in memory: `inputs` float32 `[N, T, C]`, read time first."""

    def read(self, indices: Tensor) -> Tensor:
        return super().read(indices).transpose(0, 1).contiguous()


class Arrays(Source):
    """Images or series in one file."""

    name = "arrays"
    title = "images or time series of your own, in a NumPy file"
    published = {"train": 0, "test": 0}
    layout = "FILE.npz with x [N, ...] and y [N]  (or x_train, y_train, x_test, y_test)"
    origin = "wherever it is: data.root names the file"
    options = {
        "kind": ("guessed", "images", "series"),
        "encoding": ("current", "delta", "none"),
        "threshold": (),
        "labels": (),
        "group": (),
        "test": (),
        "seed": (),
    }

    def load(
        self,
        root: Path | None = None,
        T: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> DataSet:
        """The arrays at `root`; series as `T` time steps (None: as many as they have)."""
        (path,) = self.files(root)
        chosen = self.choices(options)
        arrays = _read(path, path, chosen["labels"])
        notes: list[str] = []
        x, y, test = _divided(arrays, chosen, path, notes)
        targets = _target_count(y, path)
        labels, classes = (y.reshape(len(y), -1), ()) if targets else _classes(y, path, notes)
        if targets:
            labels = labels.astype(np.float32)
            notes.append(f"y holds real numbers: a regression with {targets} targets")
        elif unseen := sorted({*range(len(classes))} - {*labels[~test].tolist()}):
            names = ", ".join(classes[label] for label in unseen[:12])
            notes.append(f"classes that no training sample has: {names}")
        kind = chosen["kind"]
        if kind == "guessed":
            kind = "images" if (x.dtype == np.uint8 and x.ndim >= 3) or x.ndim == 4 else "series"
        if kind == "images":
            values, split = _images(x, path, notes), TensorSplit
            spec = DataSpec(self.name, values.shape[1:], classes, targets=targets)
        else:
            series = _series(x, path)
            steps = T or min(series.shape[1], _LONGEST)
            notes.append(
                f"series of {series.shape[1]} values and {series.shape[2]} channels as {steps} "
                f"time steps, encoding = {chosen['encoding']}"
            )
            if chosen["encoding"] == "delta":
                known = torch.from_numpy(series[~test])
                deviation = _deviations(known.mean((0, 1)), known.std((0, 1)), notes).numpy()
                threshold = number(chosen["threshold"] or "0.5", "threshold")
                coded = delta(series, deviation * threshold, steps)
            else:
                coded = in_parts(series, steps)
            values, split = coded.astype(np.float32), SeriesSplit
            spec = DataSpec(self.name, values.shape[2:], classes, "events", targets)
        train, other = (
            split(torch.from_numpy(values[side]), torch.from_numpy(labels[side]))
            for side in (~test, test)
        )
        inputs = train.inputs.double()
        if kind == "images":
            inputs = inputs / 255
            mean, std = inputs.mean((0, 2, 3)), inputs.std((0, 2, 3))
            std = _deviations(mean, std, notes)
        elif chosen["encoding"] == "current":
            mean = inputs.mean((0, 1))
            std = _deviations(mean, inputs.std((0, 1)), notes)
        else:
            mean, std = torch.zeros(spec.shape), torch.ones(spec.shape)
        return DataSet(spec, train, other, tuple(mean.tolist()), tuple(std.tolist()), tuple(notes))

    def for_recipe(
        self, config: DataConfig, T: int | None, accept: Accept | None = None
    ) -> DataSet:
        root = None if config.root is None else Path(config.root)
        return self.load(root, T, config.options)

    def sample(
        self, content: bytes, name: str, config: DataConfig, T: int | None, spec: DataSpec
    ) -> Tensor:
        """One image or series in a .npy file, as `Split.read` gives it without the batch axis."""
        if self.choices(config.options)["encoding"] == "delta":
            raise DataError(
                f"{name}: encoding = delta counts in deviations of the training data, which are "
                "not at hand; give an array that is encoded already"
            )
        path = Path(name)
        values = next(iter(_read(io.BytesIO(content), path, "").values()))
        if spec.kind == "static":
            return torch.from_numpy(_images(values[None], path, []))[0]
        series = _series(values[None], path)
        return torch.from_numpy(in_parts(series, T or series.shape[1])[0].astype(np.float32))

    def files(self, root: Path | None) -> tuple[Path, ...]:
        places = candidates(root, ("arrays",))
        for place in places:
            paths = sorted(place.glob("*.npz")) if place.is_dir() else [place]
            if len(paths) > 1:
                raise DataError(
                    f"{place}: {len(paths)} .npz files; name one of them with data.root"
                )
            if paths and paths[0].is_file():
                return (paths[0],)
        raise self.missing(places)


def in_parts(values: Array, steps: int) -> Array:
    """Series [N, L, C] as [N, steps, C]: the mean of each part; values repeat if L < steps."""
    edges = np.linspace(0, values.shape[1], steps + 1)
    begin = np.minimum(np.floor(edges[:-1]).astype(np.int64), values.shape[1] - 1)
    end = np.maximum(np.ceil(edges[1:] - 1e-9).astype(np.int64), begin + 1)
    sums = np.concatenate([np.zeros_like(values[:, :1]), np.cumsum(values, axis=1)], axis=1)
    return (sums[:, end] - sums[:, begin]) / (end - begin)[:, None]


def delta(values: Array, threshold: Array, steps: int) -> Array:
    """Delta modulation of series [N, L, C]: counts [N, steps, 2 C] of rises, then of falls.

    A channel tells each time when it is `threshold` [C] away from what it told last.
    """
    count, length, channels = values.shape
    out = np.zeros((count, steps, 2, channels))
    reported = values[:, 0].copy()
    for now in range(1, length):
        crossings = np.trunc((values[:, now] - reported) / threshold)
        reported += crossings * threshold
        step = min(now * steps // length, steps - 1)
        out[:, step, 0] += np.maximum(crossings, 0)
        out[:, step, 1] += np.maximum(-crossings, 0)
    return out.reshape(count, steps, 2 * channels)


def _read(file: Path | io.BytesIO, path: Path, labels: str) -> dict[str, Array]:
    try:
        loaded = np.load(file, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"x": loaded}
        if labels:
            arrays["y"] = np.load(Path(labels).expanduser(), allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever it leads to
        raise DataError(f"{path}: cannot be read as NumPy arrays ({first_line(error)})") from error
    return arrays


def _pick(arrays: Mapping[str, Array], names: tuple[str, ...], path: Path) -> Array:
    for name in names:
        if name in arrays:
            return arrays[name]
    raise DataError(
        f"{path}: has {', '.join(arrays) or 'nothing'}, expected one of {', '.join(names[:4])}"
        + ("; labels of a .npy are named by options.labels" if "y" in names else "")
    )


def _divided(
    arrays: Mapping[str, Array], options: Mapping[str, str], path: Path, notes: list[str]
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """All samples, all labels, and which of them test."""
    if "x_train" in arrays or "X_train" in arrays:
        parts = [
            [_pick(arrays, (f"{name}_{side}", f"{name.upper()}_{side}"), path) for name in "xy"]
            for side in ("train", "test")
        ]
        if parts[0][0].shape[1:] != parts[1][0].shape[1:]:
            raise DataError(f"{path}: x_train is {parts[0][0].shape}, x_test {parts[1][0].shape}")
        for side in parts:
            _same_length(side[0], side[1], path)
        x, y = (np.concatenate([side[i] for side in parts]) for i in (0, 1))
        _note_unread(arrays, [array for side in parts for array in side], notes)
        return x, _labels(y, notes), np.arange(len(x)) >= len(parts[0][0])
    x, y = _pick(arrays, _X, path), _pick(arrays, _Y, path)
    _note_unread(arrays, [x, y, arrays.get(options["group"])], notes)
    _same_length(x, y, path)
    y = _labels(y, notes)
    labels = np.zeros(len(y), np.int64)
    if not _target_count(y, path):
        _, labels = np.unique(y.reshape(-1), return_inverse=True)
    groups = None
    if options["group"]:
        groups = [str(group) for group in _pick(arrays, (options["group"],), path)]
        if len(groups) != len(x):
            raise DataError(f"{path}: {len(groups)} groups for {len(x)} samples")
    test, note = drawn(labels, groups, options)
    notes.append(note)
    return x, y, test


def _note_unread(arrays: Mapping[str, Array], read: list[Array | None], notes: list[str]) -> None:
    unread = [name for name, array in arrays.items() if not any(array is it for it in read)]
    if unread:
        notes.append(f"not read of the file: {', '.join(unread)}")


def _labels(y: Array, notes: list[str]) -> Array:
    """`y`, one-hot rows as labels [N]."""
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "iubf":
        return y
    if not np.isin(y, (0, 1)).all() or not (y.sum(1) == 1).all():
        return y
    notes.append(f"rows of y are one-hot: its {y.shape[1]} columns are taken for the classes")
    return y.argmax(1)


def _same_length(x: Array, y: Array, path: Path) -> None:
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"{path}: x is {x.shape} and y {y.shape}, expected samples [N, ...] and labels [N], or "
            "real targets [N, K]"
        )


def _target_count(y: Array, path: Path) -> int:
    """The targets of a regression; 0 where `y` holds labels."""
    columns = y.shape[1] if y.ndim == 2 else 1
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise DataError(f"{path}: y holds NaN or infinity, expected numbers")
    if columns == 1 and (y.dtype.kind != "f" or (y == np.rint(y)).all()):
        return 0
    if y.dtype.kind not in "iuf":
        raise DataError(f"{path}: y is {y.dtype} {y.shape}, expected labels [N] or real targets")
    return columns


def _classes(
    y: Array, path: Path, notes: list[str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Labels from 0, and class names: the values that occur, in their order."""
    if y.dtype.kind == "f":  # whole numbers, as other programs save them
        y = y.astype(np.int64)
    if y.dtype.kind not in "iubUS":
        raise DataError(f"{path}: y holds {y.dtype}, expected whole numbers or texts")
    values, labels = np.unique(y.reshape(-1), return_inverse=True)
    if len(values) < 2:
        raise DataError(f"{path}: y holds one class only, {values[0]}")
    names = tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)
    if y.dtype.kind in "iu" and (values != np.arange(len(values))).any():
        notes.append(f"classes are the labels that occur: {', '.join(names[:12])}")
    return labels.astype(np.int64), names


def _images(x: Array, path: Path, notes: list[str]) -> npt.NDArray[np.uint8]:
    """uint8 `[N, C, H, W]`."""
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4:
        raise DataError(f"{path}: x is {x.shape}, expected images [N, H, W], [N, H, W, C]")
    if x.shape[1] not in (1, 2, 3, 4) and x.shape[3] in (1, 2, 3, 4):
        x = x.transpose(0, 3, 1, 2)
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    if x.dtype.kind == "b":
        return np.ascontiguousarray(x).astype(np.uint8) * 255
    _finite(x, path)
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind == "f" and low >= 0 and high <= 1:
        scale = 255.0
    elif x.dtype == np.uint16:
        scale = 1 / 257
    elif low >= 0 and high <= 255:
        scale = 1.0
    else:
        raise DataError(
            f"{path}: images have values from {low:g} to {high:g}, expected 0 to 1, 8 or 16 bits; "
            "options.kind=series takes them as series"
        )
    notes.append(f"images of {x.dtype}, {low:g} to {high:g}, were scaled to 8 bits")
    return np.rint(x * scale).clip(0, 255).astype(np.uint8)


def _series(x: Array, path: Path) -> npt.NDArray[np.float64]:
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3 or x.dtype.kind not in "iufb" or not x.shape[1] * x.shape[2]:
        raise DataError(f"{path}: x is {x.dtype} {x.shape}, expected series [N, T, C]")
    _finite(x, path)
    return x.astype(np.float64)


def _deviations(mean: Tensor, std: Tensor, notes: list[str]) -> Tensor:
    """What channels are divided by: 1 where one does not vary, not what rounding leaves of it."""
    constant = std <= 1e-7 * mean.abs()
    if constant.any():
        numbers = ", ".join(map(str, torch.nonzero(constant).flatten().tolist()))
        notes.append(f"channels that do not vary in training are not scaled: {numbers}")
    return torch.where(constant, 1.0, std)


def _finite(x: Array, path: Path) -> None:
    within = np.abs(x) <= np.finfo(np.float32).max if x.dtype.kind == "f" else np.True_
    if not within.all():
        sample = int(np.argwhere(~within)[0][0])
        raise DataError(
            f"{path}: sample {sample} has values that are no numbers, or too large for float32; "
            "mend or drop it"
        )


DATA_SETS = (Arrays(),)
