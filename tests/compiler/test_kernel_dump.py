"""The text of every generated kernel is the one that was kept: a refactor changes none, and a
change that means to says which."""

from kernel_dump import hashes, kept


def test_every_kernel_has_the_text_that_was_kept() -> None:
    today, before = hashes(), kept()
    changed = [name for name in before if name in today and before[name] != today[name]]
    missing = sorted(before.keys() ^ today.keys())
    assert not changed and not missing, (
        f"{len(changed)} kernels changed, first {changed[:3]}; new or gone: {missing[:3]}. "
        "tests/compiler/kernel_dump.py FOLDER writes the texts, --keep accepts them"
    )
