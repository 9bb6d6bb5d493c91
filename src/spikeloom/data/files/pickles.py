"""Pickled dictionaries, lists, texts, numbers, and byte arrays; nothing else, without pickle.

`pickle.Unpickler` with a restricted `find_class` is not enough for files from elsewhere: one
flipped bit in a memo index makes it take gigabytes, and numpy's constructors take whatever size
they are told. The pickle machine is small, so here is the part of it that data needs (binary
opcodes of protocols 2 to 5). No object of a file is ever called: the few functions by which numpy
arrays and Python 2 strings are stored are known by name and done here. What is made is never
larger than a small multiple of the file.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikeloom.errors import DataError


@dataclass
class PickledArray:
    """A numpy array of unsigned bytes as it lies in the file; first axis fastest if `fortran`."""

    shape: tuple[int, ...] = ()
    raw: bytes = b""
    fortran: bool = False

    def view(self) -> npt.NDArray[np.uint8]:
        """The array on the bytes that were read: it cannot be written."""
        order = "F" if self.fortran else "C"
        return np.frombuffer(self.raw, dtype=np.uint8).reshape(self.shape, order=order)


def read_pickle(data: bytes, name: str) -> object:
    """The object that is pickled in `data`; byte arrays become `PickledArray`.

    Python 2 strings are bytes. Raises `DataError`, which begins with `name` and the byte, for
    anything that is damaged, anything after the end, and any object that is not plain data.
    """
    machine = _Machine(data)
    try:
        value = machine.run()
    except _Refused as refusal:
        reason = str(refusal)
    except (IndexError, struct.error):
        reason = "the pickle is cut short or garbled"
    except UnicodeError:
        reason = "a text is not in the encoding that it claims"
    else:
        if machine.position == len(data):
            return value
        reason = "bytes go on after the end of the pickle"
    raise DataError(
        f"{name}: byte {machine.position:,}: {reason}, expected a pickle of numbers, texts, lists, "
        "dictionaries, and arrays of bytes: fetch the file again"
    )


_MOST_OPERATIONS = 4_000_000
"""CIFAR-100 needs about 500,000. Every operation may make an object that is larger than itself."""


class _Refused(Exception):
    """Something that a file of plain data does not contain."""


@dataclass(frozen=True)
class _Name:
    """A function or class that the file names; it is never looked up."""

    module: str
    name: str


class _ByteType:
    """numpy's dtype of unsigned bytes."""


_SIZED: dict[int, tuple[str, Callable[[bytes], object]]] = {
    ord("U"): ("<B", bytes),
    ord("T"): ("<I", bytes),
    ord("C"): ("<B", bytes),
    ord("B"): ("<I", bytes),
    0x8E: ("<Q", bytes),
    0x96: ("<Q", bytes),
    0x8C: ("<B", bytes.decode),
    ord("X"): ("<I", bytes.decode),
    0x8D: ("<Q", bytes.decode),
    0x8A: ("<B", lambda raw: int.from_bytes(raw, "little", signed=True)),
}
"""Opcodes followed by a length and that many bytes: strings, bytes, texts, long integers."""

_NUMBERS = {ord("K"): "<B", ord("M"): "<H", ord("J"): "<i", ord("G"): ">d"}
_CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False}
_TUPLES = {ord(")"): 0, 0x85: 1, 0x86: 2, 0x87: 3}
_PUT = {ord("q"): "<B", ord("r"): "<I"}
_GET = {ord("h"): "<B", ord("j"): "<I"}
_SKIPPED = {0x80: "<B", 0x95: "<Q"}
"""Protocol number and frame length say nothing that is needed."""


class _Machine:
    """A stack, the stacks that marks put aside, and a memo: the pickle machine."""

    def __init__(self, data: bytes) -> None:
        self.position = 0
        self._data = data
        self._stack: list[object] = []
        self._aside: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._encoded = 0

    def run(self) -> object:
        for _ in range(_MOST_OPERATIONS):
            start = self.position
            code = self._number("<B")
            if code == ord("."):
                return self._stack.pop()
            try:
                self._execute(int(code))
            except Exception:
                self.position = start
                raise
        raise _Refused(f"more than {_MOST_OPERATIONS:,} operations")

    def _execute(self, code: int) -> None:
        stack = self._stack
        if code in _PUT:
            self._memo[int(self._number(_PUT[code]))] = stack[-1]
        elif code == 0x94:
            self._memo[len(self._memo)] = stack[-1]
        elif code in _GET:
            index = int(self._number(_GET[code]))
            if index not in self._memo:
                raise _Refused(f"nothing is remembered under {index}")
            stack.append(self._memo[index])
        elif code in _NUMBERS:
            stack.append(self._number(_NUMBERS[code]))
        elif code in _SIZED:
            length, make = _SIZED[code]
            stack.append(make(self._take(int(self._number(length)))))
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            count = _TUPLES[code]
            if len(stack) < count:
                raise IndexError
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif code in _SKIPPED:
            self._number(_SKIPPED[code])
        elif code in _ACTIONS:
            _ACTIONS[code](self)
        else:
            raise _Refused(f"opcode 0x{code:02x} is not one that plain data needs")

    def mark(self) -> None:
        self._aside.append(self._stack)
        self._stack = []

    def tuple(self) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def empty_list(self) -> None:
        self._stack.append([])

    def append(self) -> None:
        self._extend([self._stack.pop()])

    def appends(self) -> None:
        self._extend(self._since_mark())

    def empty_dict(self) -> None:
        self._stack.append({})

    def set_item(self) -> None:
        value = self._stack.pop()
        self._update([self._stack.pop(), value])

    def set_items(self) -> None:
        self._update(self._since_mark())

    def name(self) -> None:
        """GLOBAL: module and name as two lines."""
        words = []
        for _ in range(2):
            end = self._data.find(b"\n", self.position, self.position + 100)
            if end < 0:
                raise _Refused("a name has no end")
            words.append(self._data[self.position : end].decode("ascii"))
            self.position = end + 1
        self._stack.append(_Name(*words))

    def stack_name(self) -> None:
        """STACK_GLOBAL: module and name are the last two texts."""
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _Refused("a name is not a text")
        self._stack.append(_Name(module[:100], name[:100]))

    def call(self) -> None:
        """REDUCE: the few calls by which bytes and arrays of bytes are stored."""
        arguments, function = self._stack.pop(), self._stack.pop()
        match function, arguments:
            case _Name("_codecs", "encode"), (str(text), "latin1" | "latin-1"):
                # One text could be encoded again and again: a file makes no more than its size.
                self._encoded += len(text)
                if self._encoded > len(self._data):
                    raise _Refused("texts are encoded more often than they are stored")
                self._stack.append(text.encode("latin-1"))
            case _Name("__builtin__" | "builtins", "bytes"), ():
                self._stack.append(b"")
            case _Name("numpy", "dtype"), ("u1" | b"u1", *_):
                self._stack.append(_ByteType())
            case (
                _Name("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"),
                (_Name("numpy", "ndarray"), *_),
            ):
                self._stack.append(PickledArray())
            case (
                _Name("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer"),
                (bytes(raw), _ByteType(), tuple(shape), "C" | "F" as order),
            ):
                self._stack.append(PickledArray(_checked(shape, raw), raw, order == "F"))
            case _Name("numpy", "dtype"), _:
                raise _Refused("an array of another dtype than unsigned bytes (u1)")
            case _Name(module, name), _:
                called = f"{module}.{name}"
                raise _Refused(f"{called!r} is called")
            case _:
                raise _Refused("something that is not a function is called")

    def build(self) -> None:
        """BUILD: the content of an array; that of its dtype is known."""
        state = self._stack.pop()
        match self._stack[-1], state:
            case _ByteType(), tuple():
                return
            case PickledArray() as array, (_, tuple(shape), _ByteType(), fortran, bytes(raw)):
                array.shape, array.raw = _checked(shape, raw), raw
                array.fortran = fortran is True or fortran == 1
            case _:
                raise _Refused("an object's state is set")

    def _number(self, form: str) -> int | float:
        (number,) = struct.unpack_from(form, self._data, self.position)
        self.position += struct.calcsize(form)
        return number

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.position:
            raise IndexError
        self.position += count
        return self._data[self.position - count : self.position]

    def _since_mark(self) -> list[object]:
        items, self._stack = self._stack, self._aside.pop()
        return items

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise _Refused("something is appended to what is not a list")
        target += items

    def _update(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _Refused("a key is set in what is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys are not data's, and the hash of a nested tuple can take for ever.
            if not isinstance(key, str | bytes):
                raise _Refused(f"a dictionary key is of type {type(key).__name__}")
            target[key] = value


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    ord("("): _Machine.mark,
    ord("t"): _Machine.tuple,
    ord("]"): _Machine.empty_list,
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    ord("}"): _Machine.empty_dict,
    ord("s"): _Machine.set_item,
    ord("u"): _Machine.set_items,
    ord("c"): _Machine.name,
    0x93: _Machine.stack_name,
    ord("R"): _Machine.call,
    ord("b"): _Machine.build,
}


def _checked(shape: tuple[object, ...], raw: bytes) -> tuple[int, ...]:
    sizes = tuple(size for size in shape if isinstance(size, int) and 0 <= size < 2**31)
    if len(sizes) != len(shape) or len(shape) > 4 or math.prod(sizes) != len(raw):
        raise _Refused(f"the shape of an array does not fit its {len(raw):,} bytes")
    return sizes
