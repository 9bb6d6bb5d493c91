"""The library's own exceptions.

Each one is a mistake that its reader can mend: the text is one line that says what was given, what
was expected, and what to do. The command line prints it and exits with code 2; anything else is a
fault of ours.
"""

import re


class SpikeloomError(Exception):
    """Base class of every error that the library raises on purpose."""

    shared = False
    """Whether every process of a distributed run raised it: one of them tells it to the user."""

    def __str__(self) -> str:
        """Its text as a terminal can show it: what was read, a name for example, may hold anything.

        Control characters are written out, and words of a thousand letters shortened.
        """
        lines = super().__str__().split("\n")
        shown = ("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines)
        return re.sub(r"\S{500,}", lambda word: f"{word[0][:200]}...", "\n".join(shown))


def no_tensor(who: str, given: object) -> TypeError:
    """The error for what is given to `who`, a neuron or a network, and is no tensor."""
    kind = type(given).__name__
    advice = ": torch.from_numpy(x) makes one" if hasattr(given, "__array__") else ""
    return TypeError(f"{who} got a {kind}, expected a tensor [T, B, ...]{advice}")


class ConfigError(SpikeloomError):
    """A recipe, one of its keys, or a value is wrong."""


class DataError(SpikeloomError):
    """A data set is missing, truncated, or holds impossible values."""


class StepError(SpikeloomError):
    """A neuron's step cannot be compiled: the text names the operation and the line."""


class UnexplainedError(StepError):
    """A step raised an error of its own while it was traced: it may not do so the next time."""


class CheckpointError(SpikeloomError):
    """A checkpoint is damaged, of another recipe, or of an unknown format."""


class ExportError(SpikeloomError):
    """A network, or a part of it, has no exact form where it is exported to; or a file is none."""


class RunError(SpikeloomError):
    """A run folder cannot be created, found, or continued."""


class NonFiniteError(SpikeloomError):
    """The loss became NaN or infinite during training."""


class OutOfMemoryError(SpikeloomError):
    """The memory does not hold a step of the recipe; the text names what to lower."""
