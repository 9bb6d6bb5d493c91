"""The compiler's graph: equal values once, simplifications that keep every bit."""

import math

import numpy as np
import pytest

from spikeloom.compiler.front.ir import Builder, Graph


def test_equal_values_exist_once() -> None:
    b = Builder(double=False)
    x, y = b.input("x"), b.input("y")
    assert b.input("x") is x
    assert b.emit("add", x, y) is b.emit("add", x, y)
    assert b.emit("add", x, y) is not b.emit("add", y, x)


@pytest.mark.parametrize("double", [False, True])
def test_constants_are_folded_in_the_precision_of_the_kernel(double: bool) -> None:
    b = Builder(double)
    product = b.emit("mul", b.constant(0.1), b.constant(3.0)).number
    exact = 0.1 * 3.0
    assert product == (exact if double else float(np.float32(0.1) * np.float32(3.0)))


def test_dividing_constants_by_zero_is_folded_as_the_kernel_would() -> None:
    b = Builder(double=False)
    assert b.emit("div", b.constant(1.0), b.constant(0.0)).number == math.inf
    number = b.emit("sub", b.constant(math.inf), b.constant(math.inf)).number
    assert number is not None and math.isnan(number)


def test_zeros_of_both_signs_and_nan_are_constants_of_their_own() -> None:
    b = Builder(double=False)
    assert b.constant(0.0) is not b.constant(-0.0)
    assert b.constant(math.nan) is b.constant(float("nan"))
    assert b.constant(True) is not b.constant(1.0)


def test_what_changes_no_bit_is_left_out() -> None:
    b = Builder(double=False)
    x, one = b.input("x"), b.constant(1.0)
    assert b.emit("mul", x, one) is x and b.emit("mul", one, x) is x
    assert b.emit("div", x, one) is x
    assert b.emit("neg", b.emit("neg", x)) is x
    assert b.emit("cast_float", x) is x
    assert b.emit("where", b.emit("gt", x, one), x, x) is x


def test_what_might_change_a_bit_is_kept() -> None:
    """x + 0 turns -0.0 into 0.0; x - x is NaN for infinities; x * 0 keeps signs and NaN."""
    b = Builder(double=False)
    x, zero = b.input("x"), b.constant(0.0)
    for op, args in (("add", (x, zero)), ("sub", (x, x)), ("mul", (x, zero)), ("div", (x, x))):
        assert b.emit(op, *args).op == op


def test_a_comparison_in_arithmetic_becomes_a_number() -> None:
    b = Builder(double=False)
    x = b.input("x")
    product = b.emit("mul", x, b.emit("ge", x, b.constant(1.0)))
    assert product.dtype == "float"
    assert [arg.op for arg in product.args] == ["input", "cast_float"]


def test_only_what_an_output_needs_is_in_the_graph() -> None:
    b = Builder(double=False)
    x, v = b.input("x"), b.input("v")
    total = b.emit("add", x, v)
    graph = Graph(("x", "v"), {"spikes": b.emit("neg", x), "v": total})
    assert len(graph.order) == 2
    order = graph.select(("spikes",)).order
    assert {a.name for value in order for a in value.args if a.op == "input"} == {"x"}
    assert (
        graph.text()
        == "inputs x, v\nt0 = neg(x)\nt1 = add(x, v)\nreturn spikes = t0\nreturn v = t1"
    )


def test_a_long_chain_needs_no_recursion() -> None:
    b = Builder(double=False)
    value = b.input("x")
    for number in range(20_000):
        value = b.emit("add", value, b.constant(float(number)))
    assert len(Graph(("x",), {"spikes": value}).order) == 20_000
