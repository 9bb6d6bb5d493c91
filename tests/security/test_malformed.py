"""Nested, absurd, negative, NaN, huge and recursive content is told in one line."""

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path

import pytest
import torch
from rich.console import Console

from spikeloom import prediction, report, training
from spikeloom.errors import CheckpointError, ConfigError, OutOfMemoryError, SpikeloomError
from spikeloom.methods import catalog
from spikeloom.run import checkpoint

QUIET = Console(file=io.StringIO())
MANY = "9" * 5000


@pytest.mark.parametrize(
    "text",
    [
        f"notes = {'[' * 3000}{']' * 3000}",
        f"notes = {'{a=' * 2000}1{'}' * 2000}",
        f"{'.'.join('a' * 3000)} = 1",
        f"[{'.'.join('a' * 3000)}]\nx = 1",
        f"seed = {MANY}",
        f"seed = {2**64}",
        f"[optimizer]\nlr = {MANY}",
        "[optimizer]\nlr = nan",
        "[optimizer]\nlr = inf",
        "[training]\nepochs = -1",
        "[training]\nthreads = 1000000",
        '[training]\ndevice = "cuda:99999999999"',
        "[data]\nworkers = 1000000000",
        "seed = 1979-05-27",
        'title = "\\u001b[2J"\n[network]\n"\\u001b[2J" = 1',
        "\0",
    ],
    ids=range(16),
)
def test_absurd_recipes_are_told_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stranger.toml"
    path.write_text(f'extends = "plif/digits"\n{text}')
    with pytest.raises(ConfigError) as told:
        catalog.load_recipe(path)
    assert len(str(told.value)) < 700 and "\n" not in str(told.value)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("change", [f"T={10**15}", f"channels={2**60}", f"hidden={2**62}"])
def test_sizes_beyond_all_memory_are_told_in_one_line(tmp_path: Path, change: str) -> None:
    recipe = catalog.load_recipe("plif/digits", [change, "threads=1", "backend=eager"])
    with pytest.raises(OutOfMemoryError) as told:
        training.train(recipe, tmp_path / "run", console=QUIET)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "override", ["T=" + "[" * 10**5, f"epochs={MANY}", "lr=nan", "title=\udcff", "a" * 10**5 + "=1"]
)
def test_absurd_overrides_are_told_in_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as told:
        catalog.load_recipe("plif/digits", [override])
    assert len(str(told.value)) < 700 and str(told.value).isprintable()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = ("epochs=1", "T=1", "channels=2", "hidden=4", "threads=1", "backend=eager")
    folder = tmp_path_factory.mktemp("runs") / "run"
    training.train(
        catalog.load_recipe("plif/digits", [*changes, "tensorboard=false"]), folder, console=QUIET
    )
    return folder


def copy(run: Path, folder: Path, *, checkpoints: bool = True) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("recipe.toml", "environment.json", "metrics.jsonl"):
        (folder / name).write_bytes((run / name).read_bytes())
    for file in run.glob("checkpoints/*") if checkpoints else ():
        (folder / "checkpoints" / file.name).write_bytes(file.read_bytes())
    return folder


def test_absurd_records_are_left_out(trained: Path, tmp_path: Path) -> None:
    """By the report, which names them, and by a resume."""
    lines = (trained / "metrics.jsonl").read_bytes().splitlines()
    kinds = {json.loads(line)["event"]: json.loads(line) for line in lines}
    epoch, end = kinds["epoch"], kinds["end"]
    absurd = [
        b'{"event": "epoch", "a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        f'{{"event": "epoch", "epoch": {MANY}}}'.encode(),
        b'{"event": "step", "step": 1, "loss": NaN}',
        b'{"event": "step", "step": 1, "loss": 1e999}',
        b"[1]",
        bytes(range(128, 256)),
        *(
            json.dumps(event).encode()
            for event in (
                {**epoch, "epoch": -5},
                {**epoch, "epoch": 10**30},
                {**epoch, "test": [1, 2]},
                {**epoch, "constants": {"a": {"mean": None}, "b": 3}},
                {**epoch, "scalars": {"../../x": "y"}},
                {name: None for name in epoch} | {"event": "epoch"},
                {**end, "confusion": [[1], [2, 3]]},
                {**end, "confusion": [[-(10**30)] * 10] * 10},
                {**end, "best": 3},
                {**end, "seconds": -1e300},
            )
        ),
    ]
    run = copy(trained, tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(b"\n".join([lines[0], *absurd, *lines[1:]]) + b"\n")
    for number, facts in enumerate(
        (b"[" * 10**5, b'{"threads": NaN}', MANY.encode(), b"\xff", b"")
    ):
        (run / "environment.json").write_bytes(facts)
        if number == 0:
            page = report.write([run], samples=2).read_text()
            assert "metrics.jsonl, line 2" in page
        training.resume(run, console=QUIET)


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: b"[" * 10**5,
        lambda inputs: {**inputs, "mean": [math.nan]},
        lambda inputs: {**inputs, "std": "x"},
        lambda inputs: {**inputs, "spec": {**inputs["spec"], "shape": [-1, 8, 8]}},
        lambda inputs: {**inputs, "spec": {**inputs["spec"], "shape": [10**30, 8, 8]}},
        lambda inputs: {**inputs, "spec": {**inputs["spec"], "classes": 3}},
        lambda inputs: {**inputs, "spec": []},
    ],
    ids=range(7),
)
def test_absurd_inputs_are_told_in_one_line(trained: Path, tmp_path: Path, change) -> None:
    run = copy(trained, tmp_path / "run")
    (run / "weights.safetensors").write_bytes((trained / "weights.safetensors").read_bytes())
    changed = change(json.loads((trained / "inputs.json").read_bytes()))
    text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    (run / "inputs.json").write_bytes(text)
    with pytest.raises(SpikeloomError) as told:
        prediction.load(run)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def header(content: dict[str, object] | bytes) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
HEADERS = {
    "nothing": b"",
    "longer than the file": (2**63).to_bytes(8, "little"),
    "nested": header(b"[" * 10**5),
    "no table": header(b"3"),
    "negative shape": header({"a": {**ENTRY, "shape": [-4]}}),
    "huge shape": header({"a": {**ENTRY, "shape": [10**15, 10**15]}}),
    "beyond the end": header({"a": {**ENTRY, "data_offsets": [0, 10**12]}}),
    "backwards": header({"a": {**ENTRY, "data_offsets": [16, 0]}}),
    "no such type": header({"a": {**ENTRY, "dtype": "X"}}),
    "other names": header({"a": ENTRY}),
    "numbers in the metadata": header({"__metadata__": {"recipe": 3}, "a": ENTRY}),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_absurd_weights_are_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stranger.safetensors"
    path.write_bytes(content)
    start = catalog.load_recipe("plif/digits", [f"start={path}", "threads=1"])
    for action in (lambda: prediction.load(path), lambda: training.train(start, tmp_path / "run")):
        with pytest.raises(SpikeloomError) as told:
            action()
        assert "\n" not in str(told.value) and len(str(told.value)) < 500


def payload(pickle: bytes) -> bytes:
    """A saved tensor with another pickle, and the check sum of a checkpoint."""
    out, packed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(2)}, out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(packed, "w") as new:
        for record in old.infolist():
            pickled = record.filename.endswith("data.pkl")
            new.writestr(record.filename, pickle if pickled else old.read(record))
    data = packed.getvalue()
    return data + checkpoint._MARK + hashlib.sha256(data).hexdigest().encode() + b"\n"


PICKLES = {
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 500_000 + b".",
    "recursive list": b"\x80\x02]q\x00h\x00a.",
    "recursive dictionary": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "long integer": b"\x80\x02\x8b\xff\xff\xff\x0f" + b"\x7f" * 100 + b".",
    "integer as text": b"I" + b"9" * 100_000 + b"\n.",
    "nothing": b"",
    "empty stack": b".",
    "no such memo": b"\x80\x02h\xff.",
    "text longer than the file": b"\x80\x02X\xff\xff\xff\x7fa.",
}


@pytest.mark.parametrize("pickle", PICKLES.values(), ids=PICKLES.keys())
def test_pickles_that_are_no_state_are_told_in_one_line(tmp_path: Path, pickle: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(payload(pickle))
    with pytest.raises(CheckpointError) as told:
        checkpoint.read(path)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def of_model(change):
    return lambda state: state.update(model={k: change(v) for k, v in state["model"].items()})


STATES = {
    "recipe": lambda state: state.update(recipe="a = " + "[" * 50_000),
    "epoch": lambda state: state.update(epoch=-1),
    "large epoch": lambda state: state.update(epoch=10**30),
    "step": lambda state: state.update(step=-3, epoch=0),
    "large step": lambda state: state.update(step=10**18, epoch=0),
    "global step": lambda state: state.update(global_step=-(10**20)),
    "length": lambda state: state.update(metrics_bytes=-5),
    "processes": lambda state: state.update(processes=0),
    "best": lambda state: state.update(best={"a": 1}),
    "best as text": lambda state: state.update(best=dict.fromkeys(state["best"], "x")),
    "confusion": lambda state: state.update(confusion=torch.zeros(0)),
    "seconds": lambda state: state.update(run_seconds=math.nan),
    "sums": lambda state: state.update(sums={}),
    "optimizer": lambda state: state["optimizer"].update(param_groups=[{"params": [0]}]),
    "no moments": lambda state: state["optimizer"].pop("state"),
    "no groups": lambda state: state["optimizer"].pop("param_groups"),
    "group": lambda state: state["optimizer"].update(param_groups=[torch.zeros(0)]),
    "switch": lambda state: state["optimizer"]["param_groups"][0].update(maximize=10**30),
    "rate": lambda state: state["optimizer"]["param_groups"][0].update(initial_lr="x"),
    "moments": lambda state: state["optimizer"].update(state={0: {"step": torch.zeros(5)}}),
    "names": lambda state: state.update(model={}),
    "integers": of_model(lambda value: value.to(torch.int8)),
    "complex": of_model(lambda value: value.to(torch.complex64)),
    "sparse": of_model(lambda value: value.to_sparse() if value.dim() else value),
    "expanded": of_model(lambda value: torch.zeros(1).expand(10**12)),
    "gradients": lambda state: state.update(gradients={k: torch.zeros(3) for k in state["model"]}),
    "scaler": lambda state: state.update(scaler={"scale": -1}),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES.keys())
def test_absurd_checkpoints_are_told_in_one_line(trained: Path, tmp_path: Path, change) -> None:
    run = copy(trained, tmp_path / "run", checkpoints=False)
    state = checkpoint.read(trained / "checkpoints" / "last.pt")
    change(state)
    for name in ("last", "best"):
        checkpoint.write(run / "checkpoints" / f"{name}.pt", state)
    for action in (
        lambda: training.resume(run, epochs=2, console=QUIET),
        lambda: training.evaluate(run),
    ):
        try:
            action()
        except SpikeloomError as error:
            assert "\n" not in str(error) and len(str(error)) < 900
