"""The programs in examples/ run, in a small setting, and do what their first lines say."""

import importlib.util
import io
import json
import runpy
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from rich.console import Console

import spikeloom as sl

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_are_short():
    files = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/*.py")]
    assert len(files) >= 6
    assert [f.name for f in files if len(f.read_text("utf-8").splitlines()) >= 60] == []


def test_own_recordings_and_series_are_told_apart():
    assert load("own_events").main() > 0.9
    assert load("own_series").main() > 0.9


def test_serve_answers_a_request(tmp_path):
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    Image.fromarray(image[0].numpy()).save(tmp_path / "image.png")
    quiet = Console(file=io.StringIO())
    small = {"epochs": 1, "channels": 2, "hidden": 8}
    run = sl.train("plif/digits", out=tmp_path / "run", console=quiet, **small).folder
    with load("serve").server(str(run), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/"
            content = (tmp_path / "image.png").read_bytes()
            with urllib.request.urlopen(address, content) as response:
                answer = json.load(response)
            assert answer["name"] == sl.load(run).predict(image)[0].name
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address, b"no image")
            assert "cannot be decoded" in json.load(refused.value)["error"]
            refused.value.close()
        finally:
            server.shutdown()
            thread.join()


def test_train_in_ten_lines_learns():
    assert load("train_in_ten_lines").main(epochs=8) > 0.85


def test_own_neuron_adapts(capsys: pytest.CaptureFixture[str]):
    spikes = load("own_neuron").main()[:, 0, 0]
    assert spikes[:8].sum() > spikes[-8:].sum()  # a constant input makes it fire less and less
    assert " cpu " in capsys.readouterr().out


def test_own_neuron_agrees_compiled_and_eager():
    module = load("own_neuron")
    x = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(5)) * 3
    results = []
    for backend in ("cpu", "eager"):
        neuron = module.Adaptive(3)
        neuron.backend = backend
        spikes = neuron(x)
        (spikes * x).sum().backward()
        results.append((spikes.detach(), neuron.strength.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_own_surrogate_learns_its_width_by_the_slope_of_its_integral():
    module = load("own_surrogate")
    surrogate = module.LearnedWidth(0.7)
    u = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)

    def integral(width: torch.Tensor) -> torch.Tensor:
        r = (u / width).clamp(-1, 1)
        return 0.5 + r - 0.5 * r * r.abs()

    width = torch.tensor(0.7, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(integral, width)
    torch.testing.assert_close(surrogate.coef_derivatives(u, width)["width"], slope)
    assert module.main().surrogate.width.grad != 0


def test_own_data_is_trained_on_by_a_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from spikeloom.data import registry

    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    assert load("own_data").main(epochs=2) > 0.3
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_own_data_names_the_file_that_is_missing(tmp_path: Path):
    from spikeloom.errors import DataError

    with pytest.raises(DataError, match="no such file"):
        load("own_data").NumpyFile().load(tmp_path)


def test_own_method_is_found_trained_and_loaded_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import spikeloom.methods
    from spikeloom import training
    from spikeloom.methods import catalog

    monkeypatch.setattr(spikeloom.methods, "__path__", list(spikeloom.methods.__path__))
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["own_method", "epochs=3"])
    forget(catalog)
    try:
        runpy.run_path(str(EXAMPLES / "own_method"), run_name="__main__")
        assert "own_method" in catalog.methods()
        assert "own_method/digits" in catalog.recipe_names()
        assert training.evaluate(tmp_path / "run").accuracy > 0.5
    finally:
        monkeypatch.undo()
        forget(catalog)
    assert "own_method" not in catalog.methods()


def forget(catalog: ModuleType) -> None:
    catalog._modules.cache_clear()
    catalog.methods.cache_clear()
    catalog.library.cache_clear()


def test_five_ways_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    example = load("five_ways")
    few = {way: example.WAYS["digits"][way] for way in ("PLIF", "FS")}  # as short as it gets
    monkeypatch.setitem(example.WAYS, "digits", few)
    rows = example.main("digits", "epochs=1", "threads=1", out=tmp_path / "a.png")
    assert rows.keys() == few.keys()
    assert all(value > 0 for row in rows.values() for value in row)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    with pytest.raises(KeyError):
        example.main("nothing")
