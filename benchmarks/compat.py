"""Model files of published repositories, on SpikingJelly and on us: the table of docs/compat.md.

    python -m benchmarks.compat REPOSITORIES --packages 'DIR/spikingjelly-{version}' [--csv FILE]

REPOSITORIES holds a checkout of each, as `owner+name`; nothing of them is kept here. DIR has the
real package of each version (`pip install --no-deps --target`), which need not be importable by
itself: what it cannot import is a stub. A model file is imported twice in one process, unmodified:
first the real package answers `import spikingjelly`, then we do. Ours takes the real one's state
dict; all outputs of its neurons and all gradients are compared, then both are timed in turns.
"""

import argparse
import csv
import importlib
import importlib.abc
import importlib.machinery
import math
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.compat_models import MODELS, Model
from spikeloom.compat.spikingjelly import hook


class _Anything(type):
    """A class that has any attribute, can be called with anything, and decorates."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else _Anything("made", (), {})


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that have any name asked of them, for packages that cannot be imported here."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        def anything(name: str) -> Any:
            if name.startswith("__") and name != "__version__":
                raise AttributeError(name)
            return "0.0" if name == "__version__" else _Anything(name, (), {})

        module.__dict__["__getattr__"] = anything


def serve_stubs() -> None:
    missing = []
    names = ("torchvision", "torchaudio", "torchinfo", "torchtoolbox", "cupy", "_C_neuron")
    for name in (*names, "torchmetrics", "pytorch_lightning", "loguru", "prefetch_generator"):
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError, AttributeError):
            missing += [name] if name != "cupy" else []
            for part in [m for m in sys.modules if m.partition(".")[0] == name]:
                del sys.modules[part]
    sys.meta_path.append(Stubs(tuple(missing)))


def forget(place: Path) -> None:
    """Every module of the repositories and of SpikingJelly is imported anew the next time."""
    for name, module in list(sys.modules.items()):
        known = vars(module) if isinstance(module, types.ModuleType) else {}
        origins = [known.get("__file__") or "", *(known.get("__path__") or ())]
        ours = name.partition(".")[0] == "spikingjelly"
        if ours or any(str(origin).startswith(str(place)) for origin in origins):
            del sys.modules[name]


def real_package(version: str, packages: str) -> None:
    """`import spikingjelly` is the released package, with PyTorch's loop for each of its backends.

    Its CUDA extension needs a GPU to build: `cext.neuron` is then the same neurons of clock_driven.
    """
    sys.path.insert(0, packages.format(version=version))
    package = "activation_based" if version in ("0.0.0.0.14", "2.0.0") else "clock_driven"
    neuron: Any = importlib.import_module(f"spikingjelly.{package}.neuron")
    surrogate = importlib.import_module(f"spikingjelly.{package}.surrogate")
    sys.path.pop(0)
    if hasattr(neuron, "check_backend"):
        neuron.check_backend = lambda backend: None
    if package == "clock_driven":
        cext = types.ModuleType("spikingjelly.cext.neuron")
        for name in ("MultiStepIFNode", "MultiStepLIFNode", "MultiStepParametricLIFNode"):
            if hasattr(neuron, name):
                cext.__dict__[name] = _cext(getattr(neuron, name), surrogate)
        cext.__dict__["BaseNode"] = neuron.BaseNode
        holder = types.ModuleType("spikingjelly.cext")
        holder.__dict__.update(neuron=cext, __path__=[])
        sys.modules |= {"spikingjelly.cext": holder, "spikingjelly.cext.neuron": cext}


def _cext(kind: Any, surrogate: Any) -> Callable[..., nn.Module]:
    def make(*args: Any, alpha: float = 2.0, **options: Any) -> nn.Module:
        return kind(*args, surrogate_function=surrogate.ATan(alpha), **options)  # type: ignore[no-any-return]

    return make


def build(model: Model, place: Path) -> nn.Module:
    """The network, from the model file as it is."""
    path = place / model.file
    roots = [str(place), str(path.parent), str(place / "src"), str(place / "codes")]
    roots += [str(path.parent.parent)]
    package = "activation_based" if model.version in ("0.0.0.0.14", "2.0.0") else "clock_driven"
    sys.path[:0] = roots
    try:
        dotted = ".".join(path.relative_to(place).with_suffix("").parts)
        inside = (path.parent / "__init__.py").exists() or path.parent.name in ("models", "model")
        spec = importlib.util.spec_from_file_location(path.stem, path)  # type: ignore[attr-defined]
        if inside and path.parent.parent == place:
            module: Any = importlib.import_module(dotted)
        else:
            module = importlib.util.module_from_spec(spec)  # type: ignore[attr-defined]
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
        names = {
            "m": module,
            "torch": torch,
            "own": importlib.import_module,
            "sj": lambda part: importlib.import_module(f"spikingjelly.{package}.{part}"),
        }
        torch.manual_seed(0)
        return eval(model.build, names)  # type: ignore[no-any-return]
    finally:
        del sys.path[: len(roots)]


@contextmanager
def recorded(net: nn.Module) -> Iterator[list[Tensor]]:
    """What the neurons of `net` answer, in the order of the calls."""
    found: list[Tensor] = []
    handles = [
        node.register_forward_hook(lambda m, x, y: found.append(y.detach()))
        for node in net.modules()
        if hasattr(node, "surrogate_function")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def step(net: nn.Module, x: Tensor, loop: int) -> None:
    """Forward and backward of one batch, and the reset after it."""
    torch.manual_seed(1)
    outputs = [net(x) for _ in range(max(1, loop))]
    outputs = [y[0] if isinstance(y, tuple) else y for y in outputs]
    y = torch.stack(outputs).sum(0)
    (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
    for module in net.modules():
        if callable(getattr(module, "reset", None)):
            module.reset()  # type: ignore[operator]


def stimulus(model: Model) -> Tensor:
    """Images like normalised ones; frames of counts for those that take events."""
    generator = torch.Generator().manual_seed(5)
    if model.shape[-3] == 2:
        return torch.poisson(torch.full(model.shape, 0.3), generator=generator)
    return torch.randn(model.shape, generator=generator)


def compare(model: Model, place: Path, packages: str, rounds: int) -> dict[str, object]:
    """One row of the table."""
    forget(place.parent)
    real_package(model.version, packages)
    theirs = build(model, place)
    for node in theirs.modules():
        if getattr(node, "backend", "torch") == "cupy":
            node.backend = "torch"  # type: ignore[assignment]
    forget(place.parent)
    hook.modules.cache_clear()
    finder = hook.Finder(hook.THEIRS)
    sys.meta_path.insert(0, finder)
    try:
        hook.use(model.version)
        ours = build(model, place)
    finally:
        sys.meta_path.remove(finder)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = stimulus(model)
    answers = []
    for net in (theirs, ours):
        with recorded(net) as outputs:
            step(net, x, model.loop)
        answers.append((outputs, {n: p.grad for n, p in net.named_parameters()}))
    (spikes, grads), (our_spikes, our_grads) = answers
    total = sum(s.numel() for s in spikes)
    different = sum(int((a != b).sum()) for a, b in zip(spikes, our_spikes, strict=True))
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for kept, net in zip(times, (theirs, ours), strict=True):
            start = time.process_time()  # one thread: what others take of the core is not in it
            step(net, x, model.loop)
            kept.append(time.process_time() - start)
    return {
        "repository": model.repository,
        "file": model.file,
        "spikingjelly": model.version,
        "neurons": total,
        "rate": round(float(sum(s.sum() for s in spikes)) / total, 4),
        "different spikes": different,
        "parameters with gradient": sum(bool(g.any()) for g in grads.values() if g is not None),
        "gradient error": f"{_error(grads, our_grads):.1e}",
        "their ms": round(min(times[0]) * 1e3, 1),
        "our ms": round(min(times[1]) * 1e3, 1),
        "speed": round(min(times[0]) / min(times[1]), 2),
    }


def _error(theirs: dict[str, Tensor | None], ours: dict[str, Tensor | None]) -> float:
    """The largest relative error of a parameter's gradient.

    A vector (a bias before a BatchNorm has no gradient but rounding) counts against a thousandth of
    the largest gradient at least.
    """
    norms = {name: float(grad.norm()) for name, grad in theirs.items() if grad is not None}
    assert all(map(math.isfinite, norms.values())), "a gradient is not finite"
    worst, whole = 0.0, max(norms.values())
    for name, grad in theirs.items():
        other = ours[name]
        assert (grad is None) == (other is None), f"{name}: only one of the two has a gradient"
        if grad is not None and other is not None and norms[name]:
            least = 0.0 if grad.dim() > 1 else 1e-3 * whole
            worst = max(worst, float((grad - other).norm()) / max(norms[name], least))
    return worst


def keep(path: Path, row: dict[str, object]) -> None:
    """The row in the file, in the order of `MODELS`: in place of an older one of the same model."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = {(old["repository"], old["file"]): dict(old) for old in csv.DictReader(file)}
    rows[str(row["repository"]), str(row["file"])] = row
    order = [(model.repository, model.file) for model in MODELS]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(rows[key] for key in order if key in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repositories", type=Path)
    parser.add_argument("--packages", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--skip-failed", action="store_true", help="print why, and go on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    serve_stubs()
    for model in MODELS:
        if options.only not in f"{model.repository}/{model.file}":
            continue
        place = options.repositories.resolve() / model.repository.replace("/", "+")
        try:
            row = compare(model, place, options.packages, options.rounds)
        except Exception as error:
            if not options.skip_failed:
                raise
            print(f"{model.repository}/{model.file}: {type(error).__name__}: {error}", flush=True)
            continue
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        if options.csv:
            keep(options.csv, row)


if __name__ == "__main__":
    main()
