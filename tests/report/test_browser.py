"""The page in a real browser: no error in its console, nothing fetched from elsewhere."""

import shutil
import subprocess

import pytest

from spikeloom import report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)


def console(page, profile) -> tuple[str, list[str]]:
    """The page's DOM after loading, and the lines of its console."""
    result = subprocess.run(
        [str(BROWSER), *OPTIONS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return result.stdout, [line for line in result.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the PATH")
def test_the_browser_has_nothing_to_complain_about(make_run, tmp_path):
    path = report.write([make_run(epochs=3)])
    dom, complaints = console(path, tmp_path / "profile")
    assert "</footer>" in dom
    assert complaints == []
    # The page's policy refuses every address but its own data, and the browser says so aloud.
    leaking = path.with_name("leaking.html")
    leak = '<img src="http://localhost:9/x.png"></main>'
    leaking.write_text(path.read_text().replace("</main>", leak))
    _, complaints = console(leaking, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in complaints)
