"""The command line in this process: arguments in, exit code and text out."""

from pathlib import Path

import pytest
from cli_runner import TINY, Result, Run

from spikeloom.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """Run the command line in an empty working folder that has a small recipe, `tiny.toml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPIKELOOM_DATA", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)

    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        out, err = capsys.readouterr()
        return Result(int(stopped.value.code or 0), out, err)

    return run
