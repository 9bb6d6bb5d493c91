"""`spikeloom import`: published weights become a run folder."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikeloom.cli import main
from spikeloom.methods import catalog
from spikeloom.methods.base import Method
from spikeloom.training import evaluate


def fake_importer(path: Path, classifier: torch.nn.Module) -> dict[str, Tensor]:
    """Every weight is what the file's name says."""
    return {
        name: torch.full_like(value, float(path.stem)) if value.is_floating_point() else value
        for name, value in classifier.state_dict().items()
    }


@pytest.fixture
def importing_plif(monkeypatch: pytest.MonkeyPatch) -> None:
    plif = catalog.methods()["plif"]
    name = f"{__name__}:fake_importer"
    with_importer = Method(plif.name, plif.title, plif.network, plif.builder, name)
    methods = {**catalog.methods(), "plif": with_importer}
    monkeypatch.setattr(catalog, "methods", lambda: methods)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


@pytest.mark.usefixtures("importing_plif")
def test_imported_weights_can_be_evaluated_and_trained_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("T=1", "epochs=1", "channels=4", "--out", str(out))
    assert run("import", str(tmp_path / "0.5.pth"), "plif/digits", *options) == 0
    assert 0 <= evaluate(out).accuracy <= 1
    assert run("resume", str(out)) == 0
    assert (out / "checkpoints" / "last.pt").exists()


def test_method_without_a_published_format_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("import", str(tmp_path / "x.pth"), "plif/digits", "--out", str(out)) == 2
    assert "plif has no importer" in capsys.readouterr().err
    assert not out.exists()
