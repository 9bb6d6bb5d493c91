"""Batches as a function of (seed, epoch, step, rank), so that a run resumes inside an epoch.

    order of epoch e          = permutation drawn from stream(*seed_names, e, "order")
    part of rank r of W       = order[r], order[r + W], order[r + 2W], ...
    batch of step s           = part[s B : (s + 1) B]
    of all ranks together     = order[s B W : (s + 1) B W]
    transform of step s       draws from stream(*seed_names, e, s, r, "augment")

No generator lives longer than its epoch or step, so nothing about them has to be stored: starting
at step s gives the batches that an uninterrupted epoch would have given, and reads nothing of the
ones before.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spikeloom import seeding
from spikeloom.data.base import Batch, Split
from spikeloom.data.files.archive import first_line
from spikeloom.errors import DataError


class Draws(torch.Generator):
    """The generator of one batch's transform; it also knows which batch that is."""

    epoch: int
    samples: Tensor
    """Where the batch's samples are in their split, int64 `[B]`."""


BatchTransform = Callable[[Tensor, Draws], Tensor]
"""From raw inputs on the device and a CPU generator to what the network is given."""


class Loader:
    """Batches of `split` for one rank: `for inputs, targets in loader`, or `loader.epoch(n)`.

    - `batch_size`: samples per step and rank.
    - `shuffle`: a new order each epoch; otherwise the split's own.
    - `drop_last`: only full steps, equally many on every rank, as training needs: `N //
      (batch_size * world_size)`. Otherwise every sample is given to exactly one rank and none is
      repeated, as evaluation needs; ranks then differ by up to one step.
    - `together`: every rank takes part in every step, as training needs. Without `drop_last` this
      leaves out the last samples of an epoch where they are fewer than ranks.
    - `seed_names`: the seed, and names that tell this loader's streams from those of others.
    - `transform`: called with the raw batch, already on `device`, and the generator of the step.
    - `balanced`: samples are drawn with replacement, each class as often as any other; only of
      `shuffle`.
    - `random_read`: samples that are decoded when they are read are cut at random, for training.
    - `workers`: processes that read ahead, for splits that are not in memory; others ignore it.
      The transform always runs in the calling process, so the number of workers changes no bit.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        shuffle: bool = False,
        balanced: bool = False,
        drop_last: bool = False,
        together: bool = False,
        seed_names: tuple[int | str, ...] = (0,),
        transform: BatchTransform | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        random_read: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give 1 or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank} of {world_size}: give a rank in 0..world_size-1")
        if workers < 0:
            raise ValueError(f"workers is {workers}: give 0 or more")
        if not seed_names or not isinstance(seed_names[0], int):
            raise ValueError(f"seed_names is {seed_names!r}: begin with the seed, an integer")
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.balanced = balanced
        self.device = torch.device(device)
        self.rank = rank
        self.world_size = world_size
        self._seed, self._names = seed_names[0], seed_names[1:]
        self.transform = transform
        self._next_epoch = 0
        self._random_read = random_read and split.draws
        self._workers = 0 if split.in_memory else workers
        count = len(split)
        rest = count % (batch_size * world_size)
        left_out = drop_last or (together and rest < world_size)
        self.samples = count - rest if left_out else count
        """Samples that an epoch takes, on all ranks together."""
        if drop_last and not self.samples:
            raise DataError(
                f"the split has {len(split)} samples and a step needs {batch_size * world_size}: "
                "give a smaller batch_size or set drop_last to false"
            )

    def __len__(self) -> int:
        """Steps per epoch on this rank."""
        part = len(range(self.rank, self.samples, self.world_size))
        return -(-part // self.batch_size)

    def epoch(self, epoch: int = 0, start_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from `start_step` on; those before are not even read."""
        if not 0 <= start_step <= len(self):
            raise ValueError(f"start_step is {start_step}: the epoch has steps 0..{len(self)}")
        return self._batches(epoch, start_step)

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch: the first time epoch 0, then 1, and so on. `epoch(n)` names one."""
        self._next_epoch += 1
        return self.epoch(self._next_epoch - 1)

    def order(self, epoch: int) -> Tensor:
        """Indices of all samples in the order of `epoch`, the same on every rank, int64 `[N]`."""
        if not self.shuffle:
            return torch.arange(len(self.split))
        generator = seeding.generator(self._seed, *self._names, epoch, "order")
        if self.balanced:
            labels = self.split.labels
            weights = 1 / torch.bincount(labels)[labels].double()
            return torch.multinomial(weights, len(labels), replacement=True, generator=generator)
        return torch.randperm(len(self.split), generator=generator)

    def _batches(self, epoch: int, start_step: int) -> Iterator[Batch]:
        part = self.order(epoch)[: self.samples][self.rank :: self.world_size]
        steps = range(start_step, len(self))
        size = self.batch_size
        chunks = [part[step * size : (step + 1) * size] for step in steps]
        requests = [self._request(epoch, *item) for item in zip(steps, chunks, strict=True)]
        raw = zip(self._read(requests), (self.split.labels[chunk] for chunk in chunks), strict=True)
        whole = size * self.world_size
        there = on_device(raw, self.device)
        for step, chunk, (inputs, targets) in zip(steps, chunks, there, strict=True):
            if self.transform is not None:
                names = (*self._names, epoch, step, self.rank, "augment")
                draws = Draws()
                draws.manual_seed(seeding.stream(self._seed, *names))
                draws.epoch, draws.samples = epoch, chunk
                inputs = self.transform(inputs, draws)
            yield Batch(inputs, targets, step, min(whole, self.samples - step * whole))

    def _request(self, epoch: int, step: int, indices: Tensor) -> "_Request":
        if not self._random_read:
            return indices, None
        return indices, seeding.stream(self._seed, *self._names, epoch, step, self.rank, "decode")

    def _read(self, requests: "list[_Request]") -> Iterator[Tensor]:
        if not self._workers:
            for request in requests:
                yield _answer(self.split, request)
            return
        ahead = DataLoader(
            _Reads(self.split),
            batch_size=None,
            sampler=requests,
            num_workers=self._workers,
            # Without one of its own, DataLoader draws from the global generator at every epoch.
            generator=torch.Generator(),
            # Memory that a GPU can copy from by itself; a thread of this process copies into it.
            pin_memory=self.device.type == "cuda",
        )
        answers = iter(ahead)
        try:
            for answer in answers:
                if isinstance(answer, str):
                    raise DataError(answer)
                yield answer
        except (OSError, EOFError) as error:  # the pipe to a process that is gone
            raise DataError(dead_worker(error, self._workers)) from error


def on_device(
    pairs: Iterator[tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The `pairs` on `device`.

    A GPU copies each while the one before is computed on: from pinned memory, on a stream of its
    own, one pair ahead.
    """
    if device.type != "cuda":
        yield from ((a.to(device), b.to(device)) for a, b in pairs)
        return
    copying = torch.cuda.Stream(device)
    before: tuple[Tensor, Tensor] | None = None
    for pair in pairs:
        with torch.cuda.stream(copying):
            a, b = (
                (part if part.is_pinned() else part.pin_memory()).to(device, non_blocking=True)
                for part in pair
            )
        if before is not None:
            yield before
        before = _arrived((a, b), copying)
    if before is not None:
        yield before


def _arrived(pair: tuple[Tensor, Tensor], copying: torch.cuda.Stream) -> tuple[Tensor, Tensor]:
    """Makes what is computed on `pair` from now on wait for its copy, and nothing else."""
    current = torch.cuda.current_stream(pair[0].device)
    current.wait_stream(copying)
    for part in pair:
        part.record_stream(current)  # its memory is not used again before that is done
    return pair


def dead_worker(error: BaseException, workers: int) -> str:
    """What to say about a reading process that ended; PyTorch tells it in several ways."""
    return (
        f"a process that reads samples ahead ended ({first_line(error).rstrip('. ')}): was it "
        "killed, or is the memory full? resume the run, with a lower data.workers "
        f"({workers} now) if it happens again"
    )


_Request = tuple[Tensor, int | None]
"""Indices, and the seed of what is drawn while they are read, if anything is."""


def _answer(split: Split, request: _Request) -> Tensor:
    indices, seed = request
    return split.read(indices) if seed is None else split.read_random(indices, seed)


class _Reads(Dataset[Tensor | str]):
    """Reads of whole batches by worker processes; a `DataError` comes back as its text."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __getitem__(self, request: _Request) -> Tensor | str:
        try:
            return _answer(self._split, request)
        except DataError as error:
            return str(error)
