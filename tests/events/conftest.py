"""A cache of its own for every test, so that none sees what another prepared."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPIKELOOM_CACHE", str(folder))
    monkeypatch.delenv("SPIKELOOM_DATA", raising=False)
    return folder
