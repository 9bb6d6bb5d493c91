"""Neurons, modes and options that a version of SpikingJelly and ours are both run on.

`python tests/compat/cases.py` writes `golden/VERSION.npz` from the real package that is installed
(its requirements need not be: what cannot be imported is a stub).
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
STEPS = 6

Result = dict[str, npt.NDArray[Any]]


def stimulus() -> Tensor:
    """`[T, N, C]`, made of integers: the same on every machine."""
    numbers = torch.arange(STEPS * 2 * 3)
    return (((numbers * 7919 + 13) % 97) / 97.0 * 4 - 1.2).reshape(STEPS, 2, 3)


def cases(number: int, single: bool) -> dict[str, tuple[str, dict[str, Any], str, bool]]:
    """Name: class, options, mode ("s" or "m"), training. `number`: the version's last part."""
    kinds: dict[str, dict[str, Any]] = {"IFNode": {}, "LIFNode": {"tau": 3.0}}
    if number >= 6:
        kinds["ParametricLIFNode"] = {"init_tau": 3.0}
    if number >= 8:
        kinds |= {"QIFNode": {}, "EIFNode": {}}
    if not single:
        kinds |= {"IzhikevichNode": {"a": 0.2, "b": 0.3}, "KLIFNode": {"scale_reset": True}}
    found: dict[str, tuple[str, dict[str, Any], str, bool]] = {}

    def add(name: str, own: dict[str, Any], mode: str = "s", training: bool = True) -> None:
        shown = [f"{key}={value}" for key, value in own.items()]
        words = [name, *shown, mode, *([] if training else ["eval"])]
        found[" ".join(words)] = (name, own, mode, training)

    resets = [(0.0, True), (None, False), (-0.3, False)]
    for name, own in kinds.items():
        for v_reset, detach in resets:
            if name == "EIFNode" and v_reset is None:
                continue  # its potential grows without end
            if name == "KLIFNode" and v_reset is None and number < 100:
                continue  # an error before 2.0
            add(name, {**own, "v_reset": v_reset, "detach_reset": detach})
        many = name if not single else f"MultiStep{name}"
        if not single or (number >= 8 and name in ("IFNode", "LIFNode", "ParametricLIFNode")):
            add(many, {**own, "v_reset": 0.0, "detach_reset": False}, "m")
            if name not in ("KLIFNode", "EIFNode"):
                add(many, {**own, "v_reset": None, "detach_reset": True}, "m", False)
    if number >= 10:
        for v_reset in (0.0, -0.3):
            own = {"tau": 3.0, "decay_input": False, "v_reset": v_reset}
            add("LIFNode" if not single else "MultiStepLIFNode", own, "m")
    add("LIFNode", {}, "s")
    return found


def surrogates(module: Any) -> list[str]:
    """Those with a smooth function that a version has."""
    names = ("Sigmoid", "ATan", "PiecewiseExp", "SoftSign", "Erf", "S2NN", "QPseudoSpike")
    return [name for name in (*names, "LeakyKReLU", "Rect") if hasattr(module, name)]


def run(neuron: Any, surrogate: Any, number: int, single: bool) -> Result:
    """Spikes, potentials and gradients of every case, with the neurons of a version."""
    results: Result = {}
    for case, (name, own, mode, training) in cases(number, single).items():
        torch.manual_seed(3)
        options = dict(own)
        if not single:
            options["step_mode"] = mode
        if own:
            options["surrogate_function"] = surrogate.ATan()
        node = getattr(neuron, name)(**options).train(training)
        x = stimulus().requires_grad_()
        pieces = []
        for _ in range(2):  # the state goes on until reset()
            steps = node(x) if mode == "m" else torch.stack([node(step) for step in x])
            pieces.append(steps)
        spikes = torch.cat(pieces)
        loss = (spikes * torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape)).sum()
        (loss + node.v.sin().sum()).backward()
        grads = [x.grad, *(p.grad for p in node.parameters())]
        numbers = [node.v.detach(), *(g for g in grads if g is not None)]
        results[f"{case}: spikes"] = np.packbits(spikes.detach().numpy().astype(bool))
        results[f"{case}: numbers"] = torch.cat([n.flatten() for n in numbers]).numpy()
        node.reset()
        assert isinstance(node.v, (int, float)), "reset() puts the potential back"
    for name in surrogates(surrogate):
        for spiking in (True, False):
            u = torch.linspace(0.05, 1.9, 9).mul(torch.tensor([1.0, -1.0, 1.0] * 3))
            u.requires_grad_()
            y = getattr(surrogate, name)(spiking=spiking)(u)
            y.sum().backward()
            assert u.grad is not None
            results[f"{name} {spiking}: numbers"] = torch.cat([y.detach(), u.grad]).numpy()
    return results


def keep(path: Path, results: Result) -> None:
    """All results in three arrays: a file of many has a header for each."""
    names = list(results)
    lengths = np.array([len(results[name]) for name in names])
    spikes = [value for name, value in results.items() if name.endswith("spikes")]
    numbers = [value for name, value in results.items() if not name.endswith("spikes")]
    np.savez_compressed(
        path,
        names=np.array(names),
        lengths=lengths,
        spikes=np.concatenate(spikes),
        numbers=np.concatenate(numbers).astype(np.float32),
    )


def kept(version: str) -> Result:
    """What `keep` wrote."""
    results: Result = {}
    with np.load(GOLDEN / f"{version}.npz") as arrays:
        at = {"spikes": 0, "numbers": 0}
        for name, length in zip(arrays["names"].tolist(), arrays["lengths"].tolist(), strict=True):
            kind = "spikes" if name.endswith("spikes") else "numbers"
            results[name] = arrays[kind][at[kind] : at[kind] + length]
            at[kind] += length
    return results


def compare(found: Result, wanted: Result) -> None:
    """Every spike, and every number but for rounding."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name.endswith("spikes"):
            assert np.array_equal(found[name], value), name
        else:
            np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-6, err_msg=name)


def installed() -> tuple[str, str] | None:
    """The version of SpikingJelly that is here, and its package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("spikingjelly")
    except PackageNotFoundError:
        return None
    last = found.rsplit(".", 1)[1]
    old = found.startswith("0.0.0.0.") and int(last) < 13
    return found, "clock_driven" if old else "activation_based"


def real(package: str) -> tuple[Any, Any]:
    """`neuron` and `surrogate` of the real package; its requirements that are missing as stubs."""
    stubs = ("torchvision", "torchvision.transforms", "torchvision.datasets", "torchvision.models")
    more = ("torchvision.datasets.utils", "torchvision.models.utils", "torchaudio", "tqdm")
    for name in (*stubs, *more, "loguru", "scienceplots"):
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError, AttributeError):
            stub = types.ModuleType(name)
            stub.__dict__["__getattr__"] = _anything
            sys.modules[name] = stub
    parts = ("neuron", "surrogate")
    neuron, surrogate = (importlib.import_module(f"spikingjelly.{package}.{p}") for p in parts)
    return neuron, surrogate


def _anything(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__getattr__": lambda self, n: lambda *a, **k: None})()


if __name__ == "__main__":
    here = installed()
    assert here is not None, "install a version of spikingjelly first"
    version, package = here
    number = 100 if version.startswith("2") else int(version.rsplit(".", 1)[1])
    arrays = run(*real(package), number, package == "clock_driven")
    keep(GOLDEN / f"{version}.npz", arrays)
    size = (GOLDEN / f"{version}.npz").stat().st_size
    print(f"golden/{version}.npz: {len(arrays)} arrays, {size:,} bytes")
