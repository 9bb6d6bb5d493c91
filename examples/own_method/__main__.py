"""Train the method beside this file: `python examples/own_method [KEY=VALUE]...`."""

import sys
import tempfile
from pathlib import Path

import spikeloom.methods
from spikeloom import training
from spikeloom.methods.catalog import load_recipe

# The folders on this path are searched for methods, so this one is now one of them.
spikeloom.methods.__path__.append(str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    recipe = load_recipe("own_method/digits", sys.argv[1:])
    training.train(recipe, Path(tempfile.mkdtemp()) / "run")
