"""Loading is a function of (seed, epoch, step, rank): it resumes, shards, and repeats exactly."""

import pytest
import torch
from torch import Tensor

from spikeloom.components.augmentations import Affine
from spikeloom.data import Batch, Loader, Split, TensorSplit, Transform, subset
from spikeloom.errors import DataError

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def _split(count: int) -> TensorSplit:
    """Sample i is an image full of i, with label i mod 10."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 6, 6).contiguous()
    return TensorSplit(images, labels % 10)


class _OnDisk(Split):
    """A split whose reads are counted; sample 7 is damaged if `damaged`."""

    in_memory = False

    def __init__(self, count: int, *, damaged: bool = False) -> None:
        self._split = _split(count)
        self.labels = self._split.labels
        self._damaged = damaged
        self.reads: list[list[int]] = []

    def read(self, indices: Tensor) -> Tensor:
        self.reads.append(indices.tolist())
        if self._damaged and 7 in indices:
            raise DataError("7.bin: byte 3: damaged: fetch the file again")
        return self._split.read(indices)


def test_a_loader_iterates_epoch_after_epoch_and_a_batch_unpacks() -> None:
    loader = Loader(_split(10), 4, shuffle=True)
    for epoch in range(2):
        seen = [image for inputs, targets in loader for image in inputs if len(targets)]
        assert [int(image[0, 0, 0]) for image in seen] == _flat(_ids(loader, epoch))


def test_a_split_is_a_data_set_of_torch() -> None:
    split = subset(_split(10), torch.tensor([3, 5, 7]))
    assert isinstance(split, torch.utils.data.Dataset)
    image, label = split[-1]
    assert image.shape == (1, 6, 6) and int(image[0, 0, 0]) == 7 == int(label)
    with pytest.raises(IndexError, match=r"sample 3 of a split of 3: give -3\.\.2"):
        split[3]
    inputs, targets = next(iter(torch.utils.data.DataLoader(split, 2)))
    assert inputs.shape == (2, 1, 6, 6) and targets.tolist() == [3, 5]
    assert [int(label) for _, label in split] == [3, 5, 7]

    class Frames(Split):
        """Of recordings: time first where they are read, `[T, B, C, H, W]`."""

        def __init__(self) -> None:
            self.labels = torch.tensor([0, 1])

        def read(self, indices: Tensor) -> Tensor:
            return torch.zeros(5, len(indices), 2, 4, 4)

    assert len(Frames()) == 2 and Frames()[1][0].shape == (5, 2, 4, 4)
    with pytest.raises(TypeError, match="Split must override read"):
        Split().read(torch.tensor([0]))


def _ids(loader: Loader, epoch: int = 0, start_step: int = 0) -> list[list[int]]:
    return [batch.inputs[:, 0, 0, 0].tolist() for batch in loader.epoch(epoch, start_step)]


def _flat(batches: list[list[int]]) -> list[int]:
    return [one for batch in batches for one in batch]


def _equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.step == b.step and torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


def test_without_shuffling_samples_come_in_order_and_the_last_batch_is_partial() -> None:
    loader = Loader(_split(11), 4)
    assert len(loader) == 3
    assert _ids(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert [batch.step for batch in loader.epoch()] == [0, 1, 2]
    targets = torch.cat([batch.targets for batch in loader.epoch()])
    assert targets.tolist() == [*range(10), 0] and targets.dtype == torch.int64


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    loader = Loader(_split(50), 8, shuffle=True, seed_names=(1,))
    orders = [_flat(_ids(loader, epoch)) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    for names in ((2,), (1, "validation")):
        other = Loader(_split(50), 8, shuffle=True, seed_names=names)
        orders.append(_flat(_ids(other)))
    assert len({tuple(order) for order in orders}) == 5
    assert _ids(loader, 1) == _ids(Loader(_split(50), 8, shuffle=True, seed_names=(1,)), 1)


def test_drop_last_leaves_the_partial_batch_out() -> None:
    loader = Loader(_split(11), 4, shuffle=True, drop_last=True)
    assert [len(batch) for batch in _ids(loader)] == [4, 4] and len(loader) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_start_inside_an_epoch_equals_the_rest_of_it(workers: int) -> None:
    transform = Transform((Affine(),), (0.1,), (0.3,))
    split = _OnDisk(30)
    loader = Loader(split, 4, shuffle=True, transform=transform, workers=workers)
    whole = list(loader.epoch(2))
    for start in (0, 3, len(loader)):
        assert _equal(list(loader.epoch(2, start)), whole[start:])


def test_start_inside_an_epoch_reads_nothing_before() -> None:
    split = _OnDisk(10)
    list(Loader(split, 3).epoch(0, 2))
    assert split.reads == [[6, 7, 8], [9]]


def test_transform_draws_of_a_step_depend_on_epoch_step_and_rank_only() -> None:
    def draw(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(1, generator=generator)

    def draws(epoch: int, rank: int = 0, seed: int = 0) -> list[float]:
        loader = Loader(_split(12), 2, transform=draw, rank=rank, world_size=2, seed_names=(seed,))
        return [batch.inputs.item() for batch in loader.epoch(epoch)]

    all_draws = [*draws(0), *draws(1), *draws(0, rank=1), *draws(0, seed=1)]
    assert len(set(all_draws)) == len(all_draws) == 12
    assert draws(0) == all_draws[:3]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("count", [1, 2, 23, 24])
def test_ranks_share_an_epoch_without_padding(count: int, shuffle: bool) -> None:
    loaders = [
        Loader(_split(count), 3, shuffle=shuffle, rank=rank, world_size=3) for rank in range(3)
    ]
    parts = [_flat(_ids(loader, 4)) for loader in loaders]
    assert sorted(_flat(parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [len(loader) for loader in loaders] == [len(_ids(loader, 4)) for loader in loaders]
    order = loaders[0].order(4).tolist()
    assert parts == [order[rank::3] for rank in range(3)]


def test_with_drop_last_ranks_take_equally_many_steps_of_one_global_batch() -> None:
    alone = Loader(_split(26), 8, shuffle=True, drop_last=True)
    ranks = [
        Loader(_split(26), 4, shuffle=True, drop_last=True, rank=rank, world_size=2)
        for rank in range(2)
    ]
    assert [len(loader) for loader in ranks] == [3, 3]
    for together, first, second in zip(_ids(alone), *map(_ids, ranks), strict=True):
        assert sorted(together) == sorted(first + second)


@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_change_no_bit(shuffle: bool) -> None:
    transform = Transform((Affine(),), (0.1,), (0.3,))
    here, there = (
        Loader(_OnDisk(30), 4, shuffle=shuffle, transform=transform, workers=workers)
        for workers in (0, 2)
    )
    for epoch in range(2):
        assert _equal(list(here.epoch(epoch)), list(there.epoch(epoch)))


def test_workers_read_in_their_own_processes_only_what_is_not_in_memory() -> None:
    on_disk = _OnDisk(8)
    list(Loader(on_disk, 4, workers=1).epoch())
    assert on_disk.reads == []
    part = subset(on_disk, torch.arange(4))
    list(Loader(part, 4, workers=1).epoch())
    assert on_disk.reads == []
    in_memory = _OnDisk(8)
    in_memory.in_memory = True
    list(Loader(in_memory, 4, workers=1).epoch())
    assert in_memory.reads == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_file_is_one_line_from_workers_too(workers: int) -> None:
    loader = Loader(_OnDisk(12, damaged=True), 4, workers=workers)
    with pytest.raises(DataError) as caught:
        list(loader.epoch())
    assert str(caught.value) == "7.bin: byte 3: damaged: fetch the file again"


@pytest.mark.parametrize("workers", [0, 1])
def test_global_generator_is_left_alone(workers: int) -> None:
    before = torch.get_rng_state()
    list(Loader(_OnDisk(12), 4, shuffle=True, workers=workers).epoch())
    assert torch.equal(torch.get_rng_state(), before)


def test_split_smaller_than_a_step_is_named() -> None:
    with pytest.raises(DataError, match="the split has 7 samples and a step needs 8"):
        Loader(_split(7), 4, drop_last=True, world_size=2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of 2"),
        ({"workers": -1}, "workers is -1"),
        ({"seed_names": ("train",)}, "begin with the seed"),
        ({"seed_names": ()}, "begin with the seed"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loader(_split(7), **{"batch_size": 2, **arguments})


def test_start_beyond_the_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start_step is 5: the epoch has steps 0\.\.4"):
        Loader(_split(7), 2).epoch(0, 5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_the_gpu_equal_those_on_the_cpu() -> None:
    here, there = (
        list(Loader(_split(20), 4, shuffle=True, device=device).epoch(1))
        for device in ("cpu", "cuda")
    )
    for a, b in zip(here, there, strict=True):
        assert b.inputs.is_cuda and b.targets.is_cuda
        assert torch.equal(a.inputs, b.inputs.cpu()) and torch.equal(a.targets, b.targets.cpu())


@pytest.mark.parametrize("count, last", [(17, [2, 2, 1]), (14, [4, 4, 4]), (15, [1, 1, 1])])
def test_in_training_every_rank_takes_part_in_every_step(count: int, last: list[int]) -> None:
    """Of 12 samples a step: 5 are left of 17, all are used; 2 of 14 would leave a rank without."""
    loaders = [
        Loader(_split(count), 4, shuffle=True, together=True, rank=rank, world_size=3)
        for rank in range(3)
    ]
    epochs = [list(loader.epoch(2)) for loader in loaders]
    assert len({len(loader) for loader in loaders}) == 1
    assert [len(epoch[-1].targets) for epoch in epochs] == last
    for batches in zip(*epochs, strict=True):
        assert {batch.total for batch in batches} == {sum(len(batch.targets) for batch in batches)}
    seen = [index for loader in loaders for index in _flat(_ids(loader, 2))]
    assert len(seen) == len(set(seen)) == loaders[0].samples
    # With one rank nothing is ever left out.
    assert Loader(_split(count), 4, together=True).samples == count
