"""Runs on disks that are too small or read-only: real ones, mounted in memory.

    unshare --map-root-user --mount python storage.py FOLDER

For one size of disk after another a run is trained until it does not fit, which must be told in one
line; then the disk grows, the run is resumed, and must equal the one on a disk with room. Prints
one line of JSON last.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from campaign import SMALL
from rich.console import Console

from run_folders import assert_same_run
from spikeloom import report
from spikeloom.errors import SpikeloomError
from spikeloom.methods.catalog import load_recipe
from spikeloom.training import resume, train

ROOM = 64 << 20  # bytes of a disk that is large enough


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def go_on(run: Path) -> None:
    """Trains into `run`, or resumes it, and writes its report."""
    console = Console(file=io.StringIO())
    if (run / "recipe.toml").exists():
        resume(run, console=console)
    else:
        train(load_recipe("plif/digits", SMALL), run, console=console)
    report.write([run], samples=32)


def refused(run: Path) -> str | None:
    """What the library says about a run that cannot go on; None if it can."""
    try:
        go_on(run)
    except SpikeloomError as error:
        text = str(error)
        assert "\n" not in text, text
        return text
    return None


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    whole, disk = folder / "whole", folder / "disk"
    disk.mkdir(parents=True)
    go_on(whole)
    told: dict[str, int] = {}
    full, size, text = 0, 4096, ""
    while text is not None:
        mount(disk, f"size={size}")
        run = disk / "run"
        text = refused(run)
        if text is not None:
            assert os.strerror(28) in text, text
            full += 1
            what = "checkpoint" if "a checkpoint needs" in text else text.split(":")[0]
            told[what.replace(str(disk), "")] = told.get(what.replace(str(disk), ""), 0) + 1
            remount(disk, f"size={ROOM}")
            go_on(run)
        assert_same_run(run, whole)
        subprocess.run(["umount", str(disk)], check=True)
        size += 16384
    mount(disk, f"size={ROOM}")
    remount(disk, "ro")
    text = refused(disk / "run")
    assert text is not None and "Read-only file system" in text, text
    remount(disk, "rw")
    go_on(disk / "run")
    remount(disk, "ro")
    text = refused(disk / "run")
    assert text is not None and "Read-only file system" in text, text
    remount(disk, "rw")
    assert refused(disk / "run") is None
    assert_same_run(disk / "run", whole)
    subprocess.run(["umount", str(disk)], check=True)
    print(json.dumps({"full_disks": full, "largest": size, "read_only": 2, "told": told}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
