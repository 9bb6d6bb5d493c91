"""Synaptic operations against a count by brute force."""

import pytest
import torch
from torch import Tensor, nn

from spikeloom.analysis.operations import EnergyConstants, SynapticOperations
from spikeloom.neurons import IF, LIF
from spikeloom.nn import Sequential, StaticCoding
from spikeloom.nn.classifier import Classifier, Output

T = 5


class Small(Classifier):
    """A static coding layer, a strided convolution of spikes, pooling, a linear layer."""

    def __init__(self, pool: nn.Module, *, height: float = 1.0) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.coding = StaticCoding(T, self.convolution)
        self.fire = IF(v_threshold=0.4)
        self.height = height
        self.body = Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
            IF(v_threshold=0.1),
            pool,
            nn.Flatten(),
            nn.Linear(4 * 2 * 2, 3),
        )

    def forward(self, inputs: Tensor) -> Output:
        self.spikes = self.fire(self.coding(inputs)) * self.height
        votes = self.body(self.spikes)
        return Output(votes.sum(0), votes)


def count(network: Classifier, *batches: Tensor):
    with SynapticOperations(network) as counter, torch.no_grad():
        for batch in batches:
            network(batch)
    return counter.per_sample()


def brute_force(spikes: Tensor, layer: nn.Conv2d) -> float:
    """Additions that spikes `[N, C, H, W]` cause: a convolution of ones per output channel."""
    ones = torch.ones_like(layer.weight, dtype=torch.float64)
    fired = (spikes != 0).double()
    return nn.functional.conv2d(fired, ones, None, layer.stride, layer.padding).sum().item()


@pytest.mark.parametrize("height", [1.0, 0.7])
def test_accumulates_of_a_strided_convolution_are_exact(height):
    torch.manual_seed(1)
    network = Small(nn.MaxPool2d(2), height=height)
    image = torch.randn(6, 1, 8, 8)
    operations = count(network, image)
    layer = network.body[0]
    assert isinstance(layer, nn.Conv2d)
    expected = brute_force(network.spikes.flatten(0, 1), layer) / 6
    assert expected > 0
    assert operations.layers[1].accumulates == pytest.approx(expected, rel=1e-12)
    assert operations.layers[1].multiplies == 0
    assert operations.layers[1].evaluations == T


def test_the_static_coding_layer_multiplies_once_per_sample():
    operations = count(Small(nn.MaxPool2d(2)), torch.randn(6, 1, 8, 8), torch.randn(2, 1, 8, 8))
    coding = operations.layers[0]
    assert operations.samples == 8
    # 3x3 kernel on 8x8 with padding 1: 22 = 8 + 7 + 7 row placements reach a pixel, in each axis.
    assert coding.synapses == 22 * 22 * 3
    assert (coding.multiplies, coding.accumulates, coding.evaluations) == (22 * 22 * 3, 0, 1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.ConvTranspose2d(2, 4, 3, stride=3, padding=2, groups=2),
        nn.ConvTranspose2d(2, 4, 2, padding=1, dilation=2),
    ],
    ids=["growing", "grouped and cut", "dilated"],
)
def test_a_transposed_convolution_reaches_as_many_outputs_as_it_changes(
    layer: nn.ConvTranspose2d,
) -> None:
    class Back(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.body = Sequential(IF(v_threshold=0.5), layer, IF())

        def forward(self, inputs: Tensor) -> Output:
            self.spikes = self.body[0](inputs)
            return Output(self.body(inputs).flatten(2).sum(0))

    torch.manual_seed(3)
    network = Back()
    operations = count(network, torch.rand(T, 2, 2, 4, 5))
    # Brute force: each spike alone, through weights of 1 and no bias, and what differs from 0.
    additions = synapses = 0
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(float(parameter.dim() > 1))
        for place in range(2 * 4 * 5):
            alone = torch.zeros(1, 2 * 4 * 5)
            alone[0, place] = 1
            fan_out = int(layer(alone.view(1, 2, 4, 5)).count_nonzero())
            synapses += fan_out
            additions += fan_out * int(network.spikes.flatten(2)[:, :, place].sum())
    assert additions > 0
    assert operations.layers[0].synapses == synapses
    assert operations.layers[0].accumulates == additions / 2
    assert operations.layers[0].kind == "conv"


def test_average_pooled_spikes_count_as_the_spikes_they_are_made_of():
    torch.manual_seed(2)
    network = Small(nn.AvgPool2d(2))
    fired = []
    network.body[1].register_forward_hook(lambda layer, inputs, output: fired.append(output))
    operations = count(network, torch.randn(6, 1, 8, 8))
    assert operations.layers[2].accumulates == pytest.approx(3 * fired[0].sum().item() / 6)
    assert operations.layers[2].multiplies == 0


def test_real_values_after_a_neuron_multiply_at_every_step():
    normalise = nn.BatchNorm2d(4).eval()
    normalise.running_mean = torch.tensor([-0.3, 0.2, 0.1, 0.0])
    network = Small(nn.Sequential(nn.MaxPool2d(2), normalise))
    operations = count(network, torch.randn(6, 1, 8, 8) * 3)
    assert operations.layers[2].multiplies == T * 16 * 3


def test_event_counts_accumulate_and_images_never_do():
    class Direct(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.body = Sequential(nn.Flatten(), nn.Linear(8, 2), IF())

        def forward(self, inputs: Tensor) -> Output:
            return Output(self.body(inputs).sum(0))

    frames = torch.randint(0, 3, (T, 4, 2, 2, 2)).float()
    assert count(Direct(), frames).accumulates == frames.sum().item() * 2 / 4
    grey = torch.randint(0, 17, (T, 4, 2, 2, 2)).float() / 16
    assert count(Direct(), grey).accumulates == 0
    assert count(Direct(), grey).multiplies == T * 8 * 2


def test_energy_is_the_sum_of_its_parts_and_a_silent_network_costs_its_coding_layer():
    operations = count(Small(nn.MaxPool2d(2)), torch.zeros(1, 1, 8, 8) - 10)
    network = Small(nn.MaxPool2d(2))
    bias = network.convolution.bias
    assert bias is not None
    nn.init.constant_(bias, -1e3)
    silent = count(network, torch.randn(2, 1, 8, 8))
    assert silent.picojoule == pytest.approx(4.6 * 22 * 22 * 3)
    assert operations.picojoule == pytest.approx(
        0.9 * operations.accumulates + 4.6 * operations.multiplies
    )
    assert operations.dense_picojoule == pytest.approx(4.6 * operations.synapses)
    assert "Horowitz" in operations.assumptions


def test_any_module_is_counted_and_its_energy_estimated_in_three_ways() -> None:
    torch.manual_seed(0)
    net = Sequential(nn.Linear(6, 8), LIF(), nn.Linear(8, 4), LIF())
    with torch.no_grad(), SynapticOperations(net) as counter:
        net(3 * torch.rand(3, 5, 6))
    found = counter.per_sample()
    assert (found.samples, found.time_steps, found.neurons) == (5, 3, 12)
    assert found.updates == 3 * 12
    arithmetic, memory, bits = found.lines()
    assert arithmetic[1:3] == (found.picojoule, found.dense_picojoule)
    operations = found.accumulates + found.multiplies
    assert memory[1] == pytest.approx(found.picojoule + 5 * (operations + 2 * 36))
    assert bits[0] == "against 2 bits"  # 0 to 3 spikes
    assert bits[2] == pytest.approx((3.1 * 2 / 32 + 0.1) * found.synapses)
    cheap = counter.per_sample(EnergyConstants(accumulate=0.0, multiply=1.0))
    assert cheap.picojoule == pytest.approx(found.multiplies)
