"""What the tests of the command line share."""

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]

TINY = """\
extends = "plif/digits"
title = "tiny"
[network]
T = 2
channels = 2
hidden = 4
[data]
batch_size = 512
[training]
epochs = 1
[logging]
tensorboard = false
"""
