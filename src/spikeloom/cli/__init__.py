"""The command line, one file per verb.

Verbs import their work when they run: `spikeloom --help` loads neither torch nor a data set.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 fine, 1 something is broken, 2 a mistake in what was asked
    for, 130 interrupted."""
    # before the verbs are loaded, which is when many a Ctrl-C comes
    from spikeloom.cli import surroundings

    with surroundings.prepared():
        from spikeloom.cli import app

        app.run(arguments)


__all__ = ["main"]
