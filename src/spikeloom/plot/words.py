"""What the constants of neurons are called in figures: title, unit, and a sentence each."""

from typing import NamedTuple


class ConstantWords(NamedTuple):
    title: str
    unit: str
    sentence: str = ""


_WORDS = {
    "tau": ConstantWords(
        "Membrane time constant", "time steps", "A potential decays by 1/e in about tau steps."
    ),
    "tau_m": ConstantWords("Membrane time constant", "time steps"),
    "tau_s": ConstantWords("Synaptic time constant", "time steps", "That of the input current."),
    "tau_w": ConstantWords("Adaptation time constant", "time steps"),
    "a": ConstantWords("Adaptation to the potential, a", "per unit of potential"),
    "b": ConstantWords("Adaptation to spikes, b", "per spike"),
    "threshold": ConstantWords("Firing threshold", "units of potential"),
    "decay": ConstantWords(
        "Exponential decay", "share kept per step", "Of a potential, where the leak gate is 1."
    ),
    "leak": ConstantWords(
        "Linear leak", "potential per step", "Taken off at each step, where the leak gate is 0."
    ),
    "reset": ConstantWords(
        "Soft reset", "units of potential", "Taken off after a spike, where the reset gate is 0."
    ),
    "conductance": ConstantWords(
        "Conductance", "weight of the input", "Where the input gate is 1; one for each time step."
    ),
    "alpha": ConstantWords("Leak gate, alpha", "0 to 1", "0: linear leak, 1: exponential decay."),
    "beta": ConstantWords("Input gate, beta", "0 to 1", "0: plain input, 1: times conductance."),
    "gamma": ConstantWords("Reset gate, gamma", "0 to 1", "0: soft reset, 1: hard reset to 0."),
}


def constant_words(name: str) -> ConstantWords:
    """The words for a name in `Neuron.constants()`; the name itself where it is not known here."""
    return _WORDS.get(name, ConstantWords(f"Constant {name}", name))
