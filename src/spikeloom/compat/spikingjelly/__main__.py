"""`python -m spikeloom.compat.spikingjelly [--version 0.0.0.0.6] PROGRAM.py ARGS`"""

import os
import runpy
import sys

from spikeloom.compat.spikingjelly.dialects import DIALECTS
from spikeloom.compat.spikingjelly.hook import install

_USAGE = f"""usage: python -m spikeloom.compat.spikingjelly [--version V] PROGRAM.py [ARGS]
Runs a program that was written for SpikingJelly on spikeloom's neurons.
V: the version that it was written for, one of {", ".join(DIALECTS)}
(without it clock_driven is 0.0.0.0.12 and activation_based 0.0.0.0.14)"""


def main() -> None:
    rest, version = sys.argv[1:], None
    if len(rest) > 1 and rest[0] == "--version":
        version, rest = rest[1], rest[2:]
    if not rest or rest[0] in ("-h", "--help"):
        print(_USAGE)
        sys.exit(0 if rest else 2)
    if not os.path.isfile(rest[0]):
        sys.exit(f"{rest[0]}: no such program\n{_USAGE}")
    try:
        install(version)
    except ValueError as error:
        sys.exit(str(error))
    sys.argv = rest
    sys.path[0] = os.path.dirname(os.path.abspath(rest[0]))
    runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main()
