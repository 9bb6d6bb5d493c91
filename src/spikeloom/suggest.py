"""The nearest right word for a wrong one, as the end of an error text."""

import difflib
from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that looks most like `word`, if one does; case is ignored."""
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A question with the nearest choice, or all choices if none is near."""
    choices = sorted(choices)
    near = nearest(word, choices)
    if near is not None:
        return f'; did you mean "{near}"?'
    return f"; known: {', '.join(choices)}" if choices else ""


ELSEWHERE = {
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "bs": "data.batch_size",
    "batch": "data.batch_size",
    "num_workers": "data.workers",
    "dataset": "data.name",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "amp": "training.precision",
    "dtype": "training.precision",
    "gpu": "training.device",
    "random_seed": "seed",
    "timesteps": "network.T",
    "time_steps": "network.T",
    "num_steps": "network.T",
    "threshold": "network.v_threshold",
}
"""What keys are called in other programs."""


def did_you_mean_key(key: str, keys: Iterable[str]) -> str:
    """The same for a dotted key: its own section is searched first, then the last part in all."""
    keys = list(keys)
    section, _, leaf = key.rpartition(".")
    if (ours := ELSEWHERE.get(leaf.lower())) in keys:
        return f'; did you mean "{ours}"?'
    siblings = {n.rpartition(".")[2]: n for n in keys if n.rpartition(".")[0] == section}
    if near := nearest(leaf, siblings):
        return f'; did you mean "{siblings[near]}"?'
    by_leaf: dict[str, list[str]] = {}
    for name in keys:
        by_leaf.setdefault(name.rpartition(".")[2], []).append(name)
    if near := nearest(leaf, by_leaf):
        quoted = " or ".join(f'"{name}"' for name in by_leaf[near])
        return f"; did you mean {quoted}?"
    return did_you_mean(leaf, siblings or [name for name in keys if "." not in name])
