"""Writing a graph down as lines of Python, one operation a line; what an operation looks like is
the writer's own matter."""

from collections.abc import Callable

from spikeloom.compiler.front.ir import Graph, Value
from spikeloom.compiler.front.trace import Trace

_INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "ge": ">=", "gt": ">", "le": "<=", "lt": "<"},
    **{"eq": "==", "ne": "!=", "and": "&", "or": "|"},
}
EXPRESSIONS = {op: f"{{0}} {sign} {{1}}" for op, sign in _INFIX.items()}
EXPRESSIONS |= {"neg": "-{0}", "isnan": "{0} != {0}"}
"""Operations that look alike on both targets."""


def lines(
    graph: Graph,
    inputs: dict[str, str],
    template: Callable[[str], str],
    constant: Callable[[Value], str],
    prefix: str = "t",
) -> tuple[list[str], dict[str, str]]:
    """The lines that compute `graph`, and the expression in which each output is found.

    `inputs`: the expression of each input. `template(op)`: the text of an operation, `{0}`, `{1}`
    for its operands. `prefix`: what the names of intermediate values begin with.
    """
    names: dict[int, str] = {}

    def show(value: Value) -> str:
        if value.is_constant:
            return constant(value)
        return inputs[value.name] if value.op == "input" else names[id(value)]

    text = []
    for index, value in enumerate(graph.order):
        names[id(value)] = f"{prefix}{index}"
        text.append(f"{prefix}{index} = {template(value.op).format(*map(show, value.args))}")
    return text, {name: show(value) for name, value in graph.outputs.items()}


def state_names(states: tuple[str, ...]) -> list[str]:
    """A kernel's names of a step's states, `var` to those who write it: numbered, so that none can
    be one of the template's."""
    return [f"s{i}_{name}_" for i, name in enumerate(states)]


def coef_names(coefs: tuple[str, ...]) -> list[str]:
    """A kernel's names of a step's coefs."""
    return [f"k{i}_{name.replace('.', '_')}_" for i, name in enumerate(coefs)]


class ModuleWriter:
    """What a module is written with, whatever the target: the names of its step, and the helpers
    that it calls. `gradients`: the inputs whose gradients it writes."""

    def __init__(self, trace: Trace, gradients: frozenset[str]) -> None:
        self.trace, self.step = trace, trace.signature
        self.states = state_names(self.step.states)
        self.coefs = coef_names(self.step.coefs)
        self.leaves = [name for name in self.step.coefs if name in gradients]
        """The coefs among them."""
        self.helpers: set[str] = set()

    def coef(self, name: str) -> str:
        """The kernel's name of a coef."""
        return self.coefs[self.step.coefs.index(name)]

    def call(self, helper: str, count: int) -> str:
        """The template of a call of a helper on `count` operands."""
        self.helpers.add(helper)
        return f"{helper}({', '.join(f'{{{i}}}' for i in range(count))})"


def indent(text: list[str], levels: int = 1) -> list[str]:
    return [("    " * levels) + line for line in text]
