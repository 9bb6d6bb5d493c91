"""The page as a whole: self-contained, escaped, complete for every state of a run."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from spikeloom import report
from spikeloom.errors import RunError

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags balance, and collects ids, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def test_scalars_of_the_method_have_a_chart_each_and_numbered_ones_share_it(make_run):
    text = report.write([make_run()]).read_text(encoding="utf-8")
    folded = text[text.index("<summary>Further scalars") :]
    folded = folded[: folded.index("</details>")]
    assert re.findall(r"<h3[^>]*>([^<]*)", folded) == ["w", "solver residual"]
    shared, alone = folded.split(">solver residual<")
    assert ">w0<" in shared and ">w1<" in shared and 'class="legend"' not in alone


def test_one_run_is_written_into_its_folder_and_needs_nothing_else(make_run):
    folder = make_run()
    path = report.write([folder])
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    # The only absolute addresses are the names of XML namespaces.
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
    assert "url(http" not in text and "@import" not in text and "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    assert len(text) < 300_000
    assert not list(folder.glob("*.tmp"))


def test_the_page_says_what_the_run_was_and_what_it_reached(make_run):
    text = Page(report.write([make_run()]).read_text()).text
    for words in (
        "accuracy-A",
        "98.41 %",
        "published 99.50 %",
        "1.09 points below",
        "13.2 M",
        "Membrane time constant",
        "stages.0.neuron",
        "27.9",
        "Firing rate",
        "Label against prediction",
        'name = "no-such-data"',
        "finished",
        "A remark.",
    ):
        assert words in text


def test_every_text_of_the_run_is_escaped(make_run):
    folder = make_run()
    recipe = folder / "recipe.toml"
    attack = "<script>alert(1)</script>"
    recipe.write_text(recipe.read_text().replace("A remark.", attack))
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("stages.0.neuron", "<img src=x onerror=y>"))
    text = report.write([folder]).read_text()
    assert "<script" not in text and "<img src=x" not in text
    assert "PLIF on &lt;digits&gt; &amp; more" in text
    assert "&lt;one &amp; only&gt;" in text
    Page(text)


def test_a_run_that_is_not_finished_says_so(make_run):
    folder = make_run(epochs=40, finished=False)
    text = Page(report.write([folder]).read_text()).text
    assert "not finished: 20 of 40 epochs" in text
    assert "Label against prediction" not in text


def test_a_run_in_its_first_epoch_shows_its_steps(make_run):
    folder = make_run(epochs=1, finished=False)
    text = Page(report.write([folder]).read_text()).text
    assert "Single mini-batches of the first epoch" in text
    assert "no evaluation yet" in text
    (folder / "metrics.jsonl").unlink()
    text = Page(report.write([folder]).read_text()).text
    assert "Nothing has been recorded yet." in text
    assert "metrics.jsonl is missing" in text


def test_without_usable_weights_the_reason_stands_where_the_figures_would(make_run):
    text = Page(report.write([make_run()]).read_text()).text
    assert text.count("Not shown: ") == 2
    assert "network.name: missing" in text


def test_an_epoch_without_evaluation_leaves_a_gap_and_nothing_else(make_run):
    folder = make_run(epochs=3)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[2])
    record |= {"test": None, "best": None}
    lines[2] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")
    assert "Firing rate" in Page(report.write([folder]).read_text()).text


def test_several_runs_are_compared_and_protocols_never_share_a_column(make_run, tmp_path):
    folders = [
        make_run("plif-digits/1", epochs=12),
        make_run("plif-digits/2", epochs=12, protocol="B", spread=0.3),
        make_run("plif-digits/3", epochs=40, finished=False),
    ]
    path = report.write(folders, tmp_path / "out" / "all.html")
    assert path == tmp_path / "out" / "all.html"
    page = Page(path.read_text())
    assert len(page.ids) == len(set(page.ids))
    for words in ("3 runs", "accuracy-A", "accuracy-B", "training.epochs", "protocol.name"):
        assert words in page.text
    assert "data.batch_size" not in page.text  # equal in all
    head = page.text.index("published")
    row = page.text[page.text.index("plif-digits/2", head) :]
    assert row[:80].split("no-such-data")[1].split()[:2] == ["\N{EN DASH}", "97.22"]  # under B


def test_several_runs_go_to_the_current_folder(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = report.write([make_run("a/1", epochs=2), make_run("a/2", epochs=2)])
    assert path == Path("report.html")
    assert (tmp_path / "report.html").is_file()


def test_the_same_run_gives_the_same_bytes(make_run):
    folder = make_run(epochs=3)
    first = report.write([folder]).read_bytes()
    assert report.write([folder]).read_bytes() == first


def test_a_thousand_epochs_of_many_layers_stay_below_a_megabyte(make_run, monkeypatch):
    layers = tuple(f"layers.{i}.neuron" for i in range(16))
    monkeypatch.setitem(make_run.__globals__, "LAYERS", layers)
    path = report.write([make_run(epochs=1024, spread=0.1)])
    assert path.stat().st_size < 1_000_000


def test_a_report_that_cannot_be_written_leaves_the_old_one(make_run, monkeypatch):
    folder = make_run(epochs=2)
    path = report.write([folder])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match=r"report\.html: No space left on device"):
        report.write([folder])
    assert path.read_bytes() == before
    assert not list(folder.glob("*.tmp"))


def test_no_folder_is_an_error():
    with pytest.raises(RunError, match="no run folder given"):
        report.write([])


def test_importing_the_report_loads_neither_torch_nor_matplotlib():
    code = "import sys, spikeloom.report; print({'torch', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
