"""`spikeloom doctor`: what it looks at, and that it notices what is broken."""

import json

import pytest
import torch
from cli_runner import Run

from spikeloom.cli import doctor
from spikeloom.neurons import PLIF


def findings(run: Run) -> tuple[int, dict[str, dict[str, str]]]:
    result = run("doctor", "--json")
    return result.code, {finding["subject"]: finding for finding in json.loads(result.out)}


def test_all_is_well_here(run: Run):
    code, found = findings(run)
    assert code == 0
    assert {"python", "torch", "numba", "threads", "devices", "kernel cache"} <= set(found)
    assert found["compiled neuron"]["detail"] == "runs, and equals eager"
    assert found["torch"]["detail"] == torch.__version__
    assert "digits" in found["data sets"]["detail"]
    plain = run("doctor")
    assert plain.code == 0
    assert all(subject in plain.out for subject in found)


def test_an_old_package_is_broken_and_says_what_to_install(run: Run, monkeypatch):
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numba>=999.1", "absent>=1"])
    code, found = findings(run)
    assert code == 1
    assert found["numba"]["state"] == "broken"
    assert found["numba"]["detail"].endswith("expected 999.1 or later")
    assert found["numba"]["advice"] == "pip install -c constraints.txt 'numba>=999.1'"
    assert found["absent"]["detail"] == "not installed"


def test_a_compiled_neuron_that_differs_is_broken(run: Run, monkeypatch):
    forward = PLIF.forward

    def wrong(self: PLIF, x: torch.Tensor) -> torch.Tensor:
        spikes = forward(self, x)
        return 1 - spikes if self.backend == "cpu" else spikes

    monkeypatch.setattr(PLIF, "forward", wrong)
    code, found = findings(run)
    assert code == 1
    assert found["compiled neuron"]["detail"] == "60 of 60 spikes differ from eager"
    assert "backend=eager" in found["compiled neuron"]["advice"]


def test_a_crash_is_a_finding(run: Run, monkeypatch):
    def crash(*arguments: object, **options: object) -> None:
        raise ImportError("libgomp is missing\nsecond line")

    monkeypatch.setattr(PLIF, "forward", crash)
    code, found = findings(run)
    assert code == 1
    assert found["compiled neuron"]["detail"] == "ImportError: libgomp is missing"


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("3.0rc1", (3, 0, 1)), ("15", (15,))]
)
def test_numbers_of_a_version(version: str, numbers: tuple[int, ...]):
    assert doctor._numbers(version) == numbers


def test_kernels_are_compared_with_float64(run: Run, monkeypatch):
    from spikeloom.analysis import agreement

    case = agreement.Case("agreement", "LIF", (5, 3, 9))
    monkeypatch.setattr(agreement, "cases", lambda device, small: iter([case]))
    good = run("doctor", "--kernels")
    assert good.code == 0 and "1 of 1 cases agree" in good.out
    monkeypatch.setattr(agreement, "ROUNDING", {"float32": -1.0})
    bad = run("doctor", "--kernels")
    assert bad.code == 1 and "0 of 1 cases agree" in bad.out
