"""Files of recordings of one's own, by their suffix, and what their columns mean.

.npy .npz       numpy: a structured array, named columns, or rows of three or four numbers
.csv .txt       numpy's `loadtxt`: with a line of names, or rows of three or four numbers
.h5 .hdf5       h5py: named columns in a group, or a structured array, as Metavision (`CD/events`),
                tonic (`events`) and others have them
.aedat          AEDAT 2.0 and 3.1, see `aedat`; .aedat4 with the package aedat (extra "events"),
                which is under the MIT licence, has a megabyte, and is tested against dv-processing
.raw .dat       Prophesee's, see `prophesee`
.bin            N-MNIST's, see `atis`
"""

import io
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeloom.data.events.aedat import aedat2_columns, aedat3_columns
from spikeloom.data.events.array import Columns, Events, events
from spikeloom.data.events.atis import read_bin
from spikeloom.data.events.prophesee import read_dat, read_raw
from spikeloom.data.files.archive import first_line
from spikeloom.data.files.hdf5 import reading
from spikeloom.errors import DataError

Table = npt.NDArray[Any]

UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "ns": 1e-3}
"""Microseconds in each unit of time."""

_NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "t_offset"),
    "x": ("x", "xs", "addr_x", "col", "column"),
    "y": ("y", "ys", "addr_y", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on", "pols"),
}
_UNIT_NAMES = {"us": "us", "ns": "ns", "ms": "ms", "s": "s", "sec": "s", "seconds": "s"}


@dataclass(frozen=True)
class Meaning:
    """What the columns of all recordings of a set mean.

    size      (polarities, height, width) of the sensor
    unit      of the times: us, ms, s or ns
    order     of unnamed columns, such as "txyp"; "" guesses it
    polarity  both, merged (one channel) or swapped
    """

    size: tuple[int, int, int]
    unit: str = "us"
    order: str = ""
    polarity: str = "both"


def read_columns(data: bytes, name: str, order: str = "") -> Columns:
    """What the file `name` with the content `data` holds. Raises `DataError`."""
    suffix = PurePath(name.partition(":")[2] or name).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{name}: no recording by its name; expected a file that ends in {', '.join(SUFFIXES)}"
        )
    table = _TABLES.get(suffix)
    columns = table(data, name, order) if table else _RECORDINGS[suffix](data, name)
    if columns.cut:
        raise DataError(f"{name}: {columns.cut} bytes are left at its end; the file is cut short")
    return columns


def decode(data: bytes, source: object, *, meaning: Meaning) -> Events:
    """The recording in `data`, the file `source`; its first event is at t = 0."""
    return understood(read_columns(data, str(source), meaning.order), meaning, source)


def understood(columns: Columns, meaning: Meaning, source: object) -> Events:
    """Columns as events, in the order of the file. Raises `DataError` naming a wrong record."""
    t = _numbers(columns.t, "t", source)
    factor = UNITS[meaning.unit]
    if t.dtype.kind == "f" or factor != 1:
        t = np.rint(t * factor)
        if len(t) and np.abs(t).max() >= 1 << 53:
            raise DataError(
                f"{source}: times up to {np.abs(t).max():g} us; give options.unit (us, ms, s, ns)"
            )
    t = t.astype(np.int64)
    x, y = (_whole(getattr(columns, name), name, source) for name in ("x", "y"))
    polarities = meaning.size[0]
    p = _polarity(columns.p, source) if columns.p is not None else np.zeros(len(t), np.int64)
    if polarities == 1:
        p = np.zeros(len(t), np.int64)
    elif meaning.polarity == "swapped":
        p = 1 - p
    return events(t, x, y, p, meaning.size, source=source).from_zero()


def guess_unit(all_columns: list[Columns]) -> tuple[str, str]:
    """The unit of the times of some recordings, and why."""
    units = {columns.unit for columns in all_columns} - {""}
    if len(units) == 1:
        return units.pop(), "by the format or the column's name"
    times = [columns.t for columns in all_columns if len(columns.t)]
    if not times:
        return "us", "usual"
    largest = max(float(np.abs(t).max()) for t in times)
    span = max(float(t.max() - t.min()) for t in times)
    if any(t.dtype.kind == "f" and (t != np.rint(t)).any() for t in times):
        # a recording of less than half an hour in seconds, else of milliseconds
        unit = "s" if span < 1800 else "ms"
        return unit, f"they are fractions and span {span:g}"
    if largest > 1e17:
        return "ns", f"they are as large as {largest:g}, the clock of this century"
    return "us", "they are whole numbers"


def _numbers(values: Table, name: str, source: object) -> Table:
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise DataError(f"{source}: column {name} holds {values.dtype}, expected a row of numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        record = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{source}: record {record} has {name} = {values[record]}, no number")
    return values


def _whole(values: Table, name: str, source: object) -> npt.NDArray[np.int64]:
    values = _numbers(values, name, source)
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        record = int(np.flatnonzero(values != np.rint(values))[0])
        raise DataError(
            f"{source}: record {record} has {name} = {values[record]}, expected a whole number"
        )
    return values.astype(np.int64)


def _polarity(values: Table, source: object) -> npt.NDArray[np.int64]:
    """0 (OFF) and 1 (ON) from 0 and 1, -1 and 1, or truth values."""
    p = _whole(values, "p", source)
    wrong = np.flatnonzero((p < -1) | (p > 1))
    if len(wrong):
        raise DataError(
            f"{source}: record {wrong[0]} has polarity {p[wrong[0]]}, expected 0 and 1, or -1 and 1"
        )
    if (p == -1).any() and (p == 0).any():
        raise DataError(f"{source}: polarities -1, 0 and 1; expected two kinds of events")
    return np.where(p == -1, 0, p)


def _named(fields: Mapping[str, Any], source: str, size: tuple[int, int] | None = None) -> Columns:
    """Columns by their names, whatever the usual names are."""
    plain = {name.lower().strip(" #\ufeff"): name for name in fields}
    picked: dict[str, Any] = {}
    unit = ""
    for key, names in _NAMES.items():
        for name, original in plain.items():
            stem, _, ending = name.rpartition("_")
            if name in names or (key == "t" and stem in names and ending in _UNIT_NAMES):
                picked[key] = np.asarray(fields[original])
                unit = _UNIT_NAMES.get(ending, unit) if key == "t" and stem else unit
                break
    if gone := {"t", "x"} - picked.keys():
        raise DataError(
            f"{source}: no column {' or '.join(sorted(gone))} among {', '.join(fields) or 'none'}; "
            "expected t, x, y and p, or options.columns for rows of numbers"
        )
    y = picked.get("y", np.zeros(len(picked["x"]), np.int64))
    if len({len(column) for column in (*picked.values(), y)}) != 1:
        raise DataError(f"{source}: its columns have different lengths")
    return Columns(picked["t"], picked["x"], y, picked.get("p"), size, unit)


def _rows(table: Table, source: str, order: str, size: tuple[int, int] | None = None) -> Columns:
    """Columns of unnamed rows: in the given order, or the one that their values allow."""
    if table.ndim != 2 or table.shape[1] not in (3, 4):
        raise DataError(
            f"{source}: rows of shape {table.shape}, expected [events, 4] (or 3, without polarity)"
        )
    order = order or _guess_order(table)
    if sorted(order) != sorted("txyp"[: table.shape[1]]):
        raise DataError(
            f"{source}: {table.shape[1]} columns whose meaning cannot be told; give it, for "
            "example options.columns=txyp"
        )
    fields = {name: table[:, place] for place, name in enumerate(order)}
    return Columns(fields["t"], fields["x"], fields["y"], fields.get("p"), size, "")


def _guess_order(table: Table) -> str:
    """Which column is what: polarities are few, times the largest, x comes before y."""
    places = list(range(table.shape[1]))
    order = [""] * len(places)
    if len(places) == 4:
        few = [
            place
            for place in places
            if np.isin(table[:, place], (-1, 0, 1)).all() and place in (0, 2, 3)
        ]
        if not few:
            return ""
        order[few[-1]] = "p"
        places.remove(few[-1])
    span = [float(np.ptp(table[:, place])) if len(table) else 0.0 for place in places]
    rising = [p for p in places if not (np.diff(table[:, p]) < 0).any()]
    time = rising[0] if len(rising) == 1 else places[int(np.argmax(span))]
    if time not in (0, table.shape[1] - 1, table.shape[1] - 2):
        return ""
    order[time] = "t"
    places.remove(time)
    for place, name in zip(places, "xy", strict=True):
        order[place] = name
    return "".join(order)


def _numpy(data: bytes, name: str, order: str) -> Columns:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"": loaded}
    except Exception as error:  # a damaged header raises whatever it leads to
        raise DataError(f"{name}: cannot be read as a NumPy file ({first_line(error)})") from error
    if len(arrays) != 1:
        return _named(arrays, name)
    (array,) = arrays.values()
    return _array(array, name, order)


def _array(array: Table, name: str, order: str, size: tuple[int, int] | None = None) -> Columns:
    if array.dtype.names:
        fields = {field: array[field].reshape(-1) for field in array.dtype.names}
        return _named(fields, name, size)
    return _rows(array, name, order, size)


def _text(data: bytes, name: str, order: str) -> Columns:
    lines = [line for line in data.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    head, size = "", None
    while lines and not _row(lines[0]):
        head = lines.pop(0)
    first = _row(lines[0]) if lines else []
    if len(first) == 2 and all(map(math.isfinite, first)):  # width and height, in some data sets
        size, lines = (int(first[1]), int(first[0])), lines[1:]
    if not lines:
        raise DataError(f"{name}: holds no numbers; expected a row for each event")
    separator = next((c for c in ",;\t" if c in lines[0]), None)
    try:
        table = np.loadtxt(lines, delimiter=separator, ndmin=2, comments=("#", "%"))
    except ValueError as error:
        raise DataError(f"{name}: no table of numbers ({error})") from error
    names = [field.strip() for field in head.strip("#% ").split(separator)] if head else []
    if len(names) == table.shape[1] and not order:
        return _named({field: table[:, i] for i, field in enumerate(names)}, name, size)
    return _rows(table, name, order, size)


def _row(line: str) -> list[float]:
    """The numbers of a row; empty if it is none."""
    try:
        return [float(field) for field in line.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        return []


def _hdf5(data: bytes, name: str, order: str) -> Columns:
    import h5py

    with reading(name, "events"), h5py.File(io.BytesIO(data), "r") as file:
        geometry = str(file.attrs.get("geometry", ""))
        width, _, height = geometry.partition("x")
        size = (int(height), int(width)) if width.isdigit() and height.isdigit() else None
        for place in ("CD/events", "events", "data/0", "/"):
            node: Any = file.get(place)
            if isinstance(node, h5py.Dataset):
                return _array(node[()], name, order, size)
            if node is not None:
                fields = {key: node[key][()] for key in node if isinstance(node[key], h5py.Dataset)}
                if len(fields) == 1:
                    return _array(next(iter(fields.values())), name, order, size)
                if fields:
                    return _named(fields, name, size)
    raise DataError(f"{name}: no events in CD/events, events or at its top")


def _aedat(data: bytes, name: str) -> Columns:
    if data.startswith(b"#!AER-DAT4"):
        return _aedat4(data, name)
    return (aedat3_columns if data.startswith(b"#!AER-DAT3") else aedat2_columns)(data, name)


_AEDAT4 = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])


def _aedat4(data: bytes, name: str) -> Columns:
    try:
        import aedat
    except ImportError as error:
        raise DataError(
            f"{name}: .aedat4 files need the package aedat: pip install 'spikeloom[events]'"
        ) from error
    parts: list[Any] = []
    with tempfile.NamedTemporaryFile(suffix=".aedat4") as file:
        file.write(data)
        file.flush()
        try:
            decoder = aedat.Decoder(file.name)
            streams = {
                number: stream
                for number, stream in decoder.id_to_stream().items()
                if stream["type"] == "events"
            }
            parts = [
                packet["events"][["t", "x", "y", "on"]].astype(_AEDAT4)
                for packet in decoder
                if packet["stream_id"] in streams
            ]
        except Exception as error:  # what the decoder raises on damaged files
            raise DataError(
                f"{name}: cannot be read as AEDAT 4 ({first_line(error)}); the file is damaged"
            ) from error
    if len(streams) != 1:
        raise DataError(f"{name}: {len(streams)} streams of events, expected one")
    (stream,) = streams.values()
    size = stream["height"], stream["width"]
    rows = np.concatenate([np.zeros(0, _AEDAT4), *parts])
    return Columns(rows["t"], rows["x"], rows["y"], rows["on"], size=size)


def _bin(data: bytes, name: str) -> Columns:
    recording = read_bin(data, name, (2, 256, 256))
    return Columns(recording.t, recording.x, recording.y, recording.p)


_TABLES: dict[str, Callable[[bytes, str, str], Columns]] = {
    ".npy": _numpy,
    ".npz": _numpy,
    ".csv": _text,
    ".txt": _text,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
_RECORDINGS: dict[str, Callable[[bytes, str], Columns]] = {
    ".aedat": _aedat,
    ".aedat4": _aedat4,
    ".raw": read_raw,
    ".dat": read_dat,
    ".bin": _bin,
}
SUFFIXES = (*_TABLES, *_RECORDINGS)
