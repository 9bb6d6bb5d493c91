"""Training steps of feedback networks: their parts, and solvers that agree."""

import pytest

from benchmarks import equilibrium, training
from benchmarks.cases import Case
from benchmarks.runner import measure


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, object]]:
    case = Case("training", "ide/digits", (8,))
    trial = training.trial(case, ["T=4", "channels=[6]"], "eager")
    return {str(row["contender"]): row for row in measure(trial, 2)}


def test_a_step_is_split_into_simulation_and_backward_pass(rows) -> None:
    assert set(rows) == {"spikeloom", "eager", *equilibrium.SOLVERS}
    for row in rows.values():
        assert row["note"] == ""
        parts = [float(str(row[key])) for key in ("simulation_ms", "backward_ms")]
        assert min(parts) > 0
        # What is left of a step: the equation at the simulated rate, the readout, the optimizer.
        assert sum(parts) < 1.5 * float(str(row["step_median_ms"]))
        assert "published_step_ms" not in row


def test_each_row_says_how_its_solver_ended(rows) -> None:
    assert [rows[name]["solver"] for name in ("spikeloom", "anderson")] == ["broyden", "anderson"]
    assert float(str(rows["spikeloom"]["residual"])) < 1e-6
    assert float(str(rows["fixed-point"]["iterations"])) > float(
        str(rows["anderson"]["iterations"])
    )


def test_a_solver_of_another_equation_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equilibrium, "SOLVERS", ("published-iter",))
    trial = training.trial(Case("training", "ide/digits", (8,)), ["T=4", "channels=[6]"], "eager")
    rows = {row["contender"]: row for row in measure(trial, 1)}
    assert "not timed" in str(rows["published-iter"]["note"])
    assert "step_ms" not in rows["published-iter"]


def test_published_times_stand_beside_the_settings_they_were_taken_at() -> None:
    case = Case("training", "ide/fashion-mnist-f400", (128,))
    columns = training.trial(case, (), "eager").columns
    assert (columns["published_step_ms"], columns["published_backward_ms"]) == (128, 103)
    other = training.trial(case.with_shape((2,)), (), "eager").columns
    assert "published_step_ms" not in other
