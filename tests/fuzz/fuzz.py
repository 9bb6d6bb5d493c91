"""Coverage-guided fuzzing of every reader, with atheris: `make fuzz`.

    python fuzz.py [--seconds 600] [--only mat aedat3] [--keep FOLDER]

Each target of `targets.py` runs for its share of the time in a process of its own, which may take
1 GiB more memory than it begins with and 20 seconds for one input. Prints what was tried; what
crashed is kept in FOLDER, and the exit status is 1 then.
"""

import argparse
import faulthandler
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MEMORY = 1 << 30
TIME_LIMIT = 20  # seconds for one input
PATIENCE = 300  # seconds for loading and for one input that hangs, on a machine that is busy
PARSERS = ("spikeloom.config", "spikeloom.data", "spikeloom.run", "spikeloom.report")
TOLD_EVERY = 200
MEMORY_DISK = Path("/dev/shm")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--target", nargs=2, metavar=("NAME", "COUNTS"), help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args()
    if given.target:
        fuzz_one(*given.target, rest)
        return
    names = given.only or target_names()
    share = max(given.seconds // len(names), 1)
    print(f"{'target':<16}{'inputs':>10}{'parsed':>10}{'peak MB':>10}  result", flush=True)
    results = [run(name, share, given.keep) for name in names]
    print(f"{sum(tried for tried, _ in results):,} inputs, {sum(b for _, b in results)} crashes")
    sys.exit(any(broken for _, broken in results))


def target_names() -> list[str]:
    sys.path.insert(0, str(HERE.parent))
    from targets import TARGETS

    return list(TARGETS)


def run(name: str, seconds: int, keep: Path) -> tuple[int, bool]:
    """Fuzzes one target; inputs tried, and whether one crashed."""
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
        corpus, counts = Path(folder) / "corpus", Path(folder) / "counts"
        corpus.mkdir()
        keep.mkdir(parents=True, exist_ok=True)
        # Where not even the fuzzer's own limit of time helps, the shell's does.
        guard = shutil.which("timeout")
        patience = [guard, "-k", "5", str(seconds + PATIENCE)] if guard else []
        answer = subprocess.run(
            [
                *(*patience, sys.executable, str(HERE / "fuzz.py"), "--target", name, str(counts)),
                *(str(corpus), f"-max_total_time={seconds}", f"-timeout={TIME_LIMIT}"),
                *("-rss_limit_mb=0", "-print_final_stats=1", "-max_len=20000"),
                f"-artifact_prefix={keep}/{name}-",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"TMPDIR": folder, "SPIKELOOM_CACHE": f"{folder}/cache"},
        )
        log = answer.stdout
        tried = int(_last(r"stat::number_of_executed_units:\s*(\d+)", log) or 0)
        parsed = int(counts.read_text()) if counts.exists() else 0
        peak = _last(r"stat::peak_rss_mb:\s*(\d+)", log) or "?"
        broken = answer.returncode != 0
        result = "no crash"
        if broken:
            found = _last(r"Test unit written to (\S+)", log)
            last = counts.with_name("now")
            if found is None and last.exists():  # it hung
                found = str(shutil.copy(last, keep / f"{name}-hang"))
            result = f"CRASH: {found}"
            (keep / f"{name}.log").write_text(log[-20000:])
    print(f"{name:<16}{tried:>10,}{parsed:>10,}{peak:>10}  {result}", flush=True)
    return tried, broken


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[-1] if found else None


def fuzz_one(name: str, counts: str, arguments: list[str]) -> None:
    """This process's part: reads what the fuzzer makes up until the time is over."""
    import atheris

    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=list(PARSERS)):
        from targets import TARGETS
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        (Path(arguments[0]) / f"seed{number}").write_bytes(seed)
    tried = parsed = 0
    now = Path(counts).with_name("now")

    def read(data: bytes) -> None:
        nonlocal tried, parsed
        # The fuzzer's own limit of time does not end a reader that hangs.
        now.write_bytes(data)
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
        parsed += target(data)
        faulthandler.cancel_dump_traceback_later()
        tried += 1
        if tried % TOLD_EVERY == 0:
            Path(counts).write_text(str(parsed))

    read(target.seeds()[0])  # loads what is loaded late
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, held + MEMORY))
    atheris.Setup([sys.argv[0], *arguments], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
