"""A trained network answers for a user's own samples, wherever its folder was copied to."""

import csv
import io
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import spikeloom as sl
from spikeloom import data, machine
from spikeloom.errors import CheckpointError, ConfigError, DataError, RunError
from spikeloom.prediction.samples import as_samples
from spikeloom.training import load_run

SMALL = dict(epochs=1, channels=4, hidden=16, threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    sl.train("plif/digits", out=folder, console=Console(file=io.StringIO()), **SMALL)
    return folder


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return data.load("digits").test.read(torch.arange(12))


def write_png(path: Path, image: torch.Tensor, scale: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image[0].numpy())
    picture.resize((8 * scale, 8 * scale), Image.Resampling.NEAREST).save(path)
    return path


def command(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "spikeloom", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
    )


def test_predictions_are_those_of_the_evaluation(run: Path, images: torch.Tensor) -> None:
    trained = load_run(run)
    batch = next(iter(trained.test_loader().epoch(0)))
    with torch.no_grad():
        scores = trained.classifier(batch.inputs).scores[:12]
    answers = sl.load(run).predict(images, batch_size=12)
    assert [list(answer.scores.values()) for answer in answers] == scores.tolist()
    assert [answer.label for answer in answers] == scores.argmax(1).tolist()
    assert answers[3].name == str(answers[3].label)
    assert answers[3].source == "sample 3"


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images[:, 0],
        lambda images: images.permute(0, 2, 3, 1).numpy(),
        lambda images: images.to(torch.float64) / 255,
        lambda images: list(images),
        lambda images: [Image.fromarray(image[0].numpy()) for image in images],
        lambda images: images.to(torch.int64),
    ],
    ids=["no channels", "channels last", "fractions", "list", "pillow", "int64"],
)
def test_forms_of_the_same_images(run: Path, images: torch.Tensor, change) -> None:
    network = sl.load(run)
    same = [answer.scores for answer in network.predict(images)]
    assert [answer.scores for answer in network.predict(change(images))] == same


def test_files_give_what_arrays_give(run: Path, images: torch.Tensor, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        write_png(tmp_path / "in" / f"{number:02d}.png", image)
    write_png(tmp_path / "in" / ".hidden.png", images[0])
    network = sl.load(run)
    answers = network.predict(tmp_path / "in")
    assert [a.scores for a in answers] == [a.scores for a in network.predict(images)]
    assert answers[1].source == str(tmp_path / "in" / "01.png")
    # Enlarged by whole pixels and in colour: brought back to 8 x 8.
    Image.open(tmp_path / "in" / "00.png").convert("RGB").save(tmp_path / "colour.png")
    assert network.predict(tmp_path / "colour.png")[0].scores == answers[0].scores


def test_weights_alone_are_enough(run: Path, images: torch.Tensor, tmp_path: Path) -> None:
    copied = shutil.copy(run / "weights.safetensors", tmp_path / "net.safetensors")
    same = [answer.scores for answer in sl.load(run).predict(images)]
    assert [answer.scores for answer in sl.load(copied).predict(images)] == same


def test_a_weights_file_names_no_place_of_its_machine(run: Path) -> None:
    assert b"root" not in (run / "weights.safetensors").read_bytes()[:4000]


def test_threads_give_the_same_answers(run: Path, images: torch.Tensor) -> None:
    network, answers = sl.load(run), {}
    same = [answer.scores for answer in network.predict(images)]

    def ask(number: int) -> None:
        answers[number] = [answer.scores for answer in network.predict(images)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(answers.values()) == [same] * 4


def test_command_writes_a_table(run: Path, images: torch.Tensor, tmp_path: Path) -> None:
    files = [write_png(tmp_path / f"{i}.png", image) for i, image in enumerate(images[:2])]
    table = tmp_path / "out.csv"
    done = command("predict", run, *files, "-", "--csv", table, stdin=files[0].read_bytes())
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(table.read_text().splitlines()))
    answers = sl.load(run).predict(images[:2])
    assert [row["class"] for row in rows] == [answers[i].name for i in (0, 1, 0)]
    assert [row["file"] for row in rows] == [*map(str, files), "standard input"]
    assert float(rows[1]["score 3"]) == answers[1].scores["3"]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ("/nowhere.png", "/nowhere.png: cannot be read (No such file or directory)"),
        (torch.zeros(5, 7), "sample 0 has shape [5, 7]: give [1, 8, 8]"),
        (torch.full((8, 8), -1.0), "values from -1 to -1"),
        (np.array(["text"]), "sample 0 is a ndarray: give a file"),
        (b"no image", "standard input: cannot be decoded as an image"),
        (object(), "sample 0 is a object"),
    ],
    ids=["no file", "shape", "range", "text", "bytes", "object"],
)
def test_what_is_no_sample_is_told_in_one_line(run: Path, samples: object, said: str) -> None:
    with pytest.raises(DataError) as error:
        sl.load(run).predict(samples)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_or_bare_weights(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes((run / "weights.safetensors").read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        sl.load(tmp_path / "a.safetensors")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="weights alone"):
        sl.load(tmp_path / "b.safetensors")
    with pytest.raises(RunError, match="does not exist"):
        sl.load(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "[", '{"spec": 3}', '{"spec": {"name": "x"}}'])
def test_damaged_inputs_are_named(run: Path, tmp_path: Path, text: str) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "inputs.json").write_text(text)
    with pytest.raises(RunError, match=r"inputs\.json: "):
        sl.load(copied)


def test_other_data_than_the_run_was_trained_on(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    text = (copied / "inputs.json").read_text()
    (copied / "inputs.json").write_text(text.replace('"0"', '"zero"'))
    with pytest.raises(DataError, match="the run was trained on"):
        sl.evaluate(copied)


def test_train_from_python_is_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quiet = Console(file=io.StringIO())
    sl.train("plif/digits", console=quiet, changes={"training.threads": 1}, epochs=1, channels=2)
    recipe = load_run("runs/plif-digits/1").recipe
    assert (recipe.training.epochs, recipe.training.threads) == (1, 1)
    assert "plif/digits" in sl.recipes()
    with pytest.raises(ConfigError, match="epoch"):
        sl.train("plif/digits", epoch=3)
    assert not Path("runs/plif-digits/2").exists()


def test_settings_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SPIKELOOM_DATA", raising=False)
    assert machine.data_root() == Path("data")
    file = tmp_path / "spikeloom" / "config.toml"
    file.parent.mkdir()
    file.write_text('data = "/mnt/sets"\ndevice = "cpu"\n')
    assert (machine.data_root(), machine.device()) == (Path("/mnt/sets"), "cpu")
    monkeypatch.setenv("SPIKELOOM_DATA", "/elsewhere")
    assert machine.data_root() == Path("/elsewhere")
    for text in ("data = 3", "colour = 'red'", "= ="):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"config\.toml"):
            machine.device()


def test_a_few_files_go_through_the_eager_steps(run: Path, images: torch.Tensor) -> None:
    eager = sl.load(run, backend="eager")
    assert [answer.scores for answer in eager.predict(images)] == [
        answer.scores for answer in sl.load(run).predict(images)
    ]
    assert {m.backend for m in eager.classifier.modules() if hasattr(m, "backend")} == {"eager"}


def test_frames_of_another_number_of_steps_are_refused() -> None:
    spec = data.DataSpec("series", (3,), ("a", "b"), "events")
    for shape, count in (((5, 3), 1), ((5, 7, 3), 7)):
        assert len(list(as_samples(torch.zeros(shape), never, spec, 5))) == count
        assert len(list(as_samples(torch.zeros(shape), never, spec))) == count
        with pytest.raises(DataError, match=r"sample 0 has shape .*: give frames \[6, 3\]"):
            list(as_samples(torch.zeros(shape), never, spec, 6))


def never(content: bytes, name: str) -> torch.Tensor:
    raise AssertionError
