"""A network made for inference answers as the trained one."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import spikeloom as sl
from spikeloom import data
from spikeloom.data.for_recipe import load_data
from spikeloom.methods.catalog import load_recipe, methods
from spikeloom.nn import BatchNorm, Recurrent, Sequential, TdBatchNorm
from spikeloom.synapses.fixed import fixed


def trained(*layers):
    """A chain with statistics and weights as after some training."""
    net = Sequential(*layers).double()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, BatchNorm)):
                module.weight.uniform_(0.5, 2.0)
                module.bias.uniform_(-0.3, 0.6)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.3, 2.0)
    return net.eval()


def convolutional():
    torch.manual_seed(0)
    return trained(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        BatchNorm(8),
        sl.PLIF(tau=2.0),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, groups=2),
        nn.BatchNorm2d(16),
        sl.LIF(v_threshold=0.5),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 8, 1)),
        TdBatchNorm(8),
        sl.IF(),
        nn.Flatten(),
        nn.Linear(8 * 16, 20),
        nn.BatchNorm1d(20),
        Recurrent(sl.LIF(v_threshold=0.5), 20),
        nn.Linear(20, 5),
    )


class Block(nn.Module):
    """Layers as attributes, called in an order that only `forward` knows."""

    time_first = True

    def __init__(self, residual):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.neuron, self.residual = sl.LIF(v_threshold=0.4), residual

    def forward(self, x):
        y = self.linear(x.flatten(0, 1))
        z = self.norm(y) + (y if self.residual else 0)
        return self.neuron(z.unflatten(0, x.shape[:2]))


@pytest.mark.parametrize("mode", ["whole", "pieces", "steps"])
def test_answers_are_those_of_the_network_folded_or_in_pieces(mode):
    net = convolutional()
    fast = sl.inference(net)
    for seed in range(2):
        torch.manual_seed(seed)
        x = torch.rand(6, 3, 2, 8, 8, dtype=torch.float64) * 3
        with torch.no_grad():
            wanted = net(x)
        assert wanted.count_nonzero()
        if mode == "whole":
            answer = fast(x)
        else:
            state, pieces = None, []
            for piece in x.split(4 if mode == "pieces" else 1):
                y, state = fast(piece, state)
                pieces.append(y)
            answer = torch.cat(pieces)
        assert not answer.requires_grad
        torch.testing.assert_close(answer, wanted, rtol=1e-9, atol=1e-9)
    assert [norm for _, norm in fast.folded] == ["1", "5", "8", "12"]
    assert not any(isinstance(m, (nn.BatchNorm2d, BatchNorm)) for m in fast.network.modules())


def test_the_network_itself_is_left_alone():
    net = convolutional().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fast = sl.inference(net, torch.rand(4, 2, 2, 8, 8, dtype=torch.float64))
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match="does not train"):
        fast.train()


def test_only_a_result_that_nothing_else_uses_is_folded():
    for residual, count in ((False, 1), (True, 0)):
        torch.manual_seed(1)
        net = trained(Block(residual))
        x = torch.rand(5, 4, 6, dtype=torch.float64) * 2
        fast = sl.inference(net)
        if residual:
            with pytest.warns(UserWarning, match="no BatchNorm of this network is folded"):
                fast(x)
        assert torch.equal(fast(x), net(x)) and len(fast.folded) == count


def test_a_layer_used_twice_is_not_folded():
    torch.manual_seed(2)
    shared = nn.Linear(6, 6)
    net = trained(shared, nn.BatchNorm1d(6), sl.LIF(), shared, sl.LIF())
    x = torch.rand(5, 4, 6, dtype=torch.float64) * 4
    fast = sl.inference(net)
    assert torch.equal(fast(x), net(x)) and not fast.folded


LAYERS = [
    nn.Linear(70, 33),
    nn.Linear(700, 512),
    nn.Conv2d(70, 24, 3, padding=1, bias=False),
    nn.Conv2d(70, 16, (3, 1), stride=(2, 1), dilation=(1, 2), groups=2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_fixed_layers_equal_torchs(layer, density, mode):
    layer = layer.double()
    torch.manual_seed(0)
    shape = (9, layer.in_features) if isinstance(layer, nn.Linear) else (3, 70, 8, 9)
    x = (torch.rand(shape) < density).double() * 1.5
    step = fixed(layer)
    assert step is not None
    with torch.no_grad(), sl.sparse(mode):
        for inputs in (
            x,
            x[:1],
            x[:0],
            x.to(memory_format=torch.channels_last) if x.dim() > 2 else x,
        ):
            torch.testing.assert_close(step(inputs), layer(inputs), rtol=1e-12, atol=1e-12)


def test_explain_tells_what_a_fixed_layer_did():
    net = sl.nn.Sequential(nn.Linear(256, 2048), sl.LIF(), nn.Linear(2048, 2048), sl.LIF())
    fast = sl.inference(net)
    x = torch.zeros(2, 1, 256)
    x[:, :, 3] = 40.0
    fast(x)
    with sl.sparse("on"):
        rows = {name: row for name, *row in sl.explain(fast, x)}
    assert rows["network.0"][:2] == ["linear", "sparse"]
    assert "0.4% of 2x256" in rows["network.0"][2]


def test_layers_without_a_kernel_stay_as_they_are():
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    for layer in (nn.Linear(4, 4).half(), hooked, nn.ConvTranspose2d(2, 2, 3), nn.Identity()):
        assert fixed(layer) is None


def spiking():
    """Chains in which spikes are handed on as lists: from images to rows, pooled or not, with
    constants for each channel, and a width that windows do not divide."""
    torch.manual_seed(3)
    return trained(
        *(nn.Conv2d(2, 18, 3, padding=1, bias=False), BatchNorm(18)),
        *(sl.PLIF(tau=2.0), nn.MaxPool2d(2)),
        *(nn.Conv2d(18, 70, 3, padding=1), BatchNorm(70), sl.LIF(v_threshold=0.4)),
        *(nn.Conv2d(70, 16, 3, stride=2), sl.IF(v_threshold=0.5), nn.MaxPool2d((1, 2))),
        *(sl.nn.Dropout(), nn.Flatten(), nn.Linear(16 * 2 * 1, 40), sl.LIF(v_threshold=0.3)),
        *(nn.Linear(40, 20), sl.PLIF(tau=3.0, v_threshold=0.2), nn.Linear(20, 5)),
    )


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("threads", [1, 2])
def test_spikes_handed_on_as_lists_are_the_spikes(mode, threads):
    net, before = spiking(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = sl.inference(net)
        x = torch.rand(5, 7, 2, 12, 10, dtype=torch.float64) * 4
        with torch.no_grad(), sl.sparse(mode):
            wanted, wanted_state = net(x, None)
            assert wanted.double().abs().mean() > 0.05
            for inputs in (x, x.transpose(3, 4).contiguous().transpose(3, 4)):
                torch.testing.assert_close(fast(inputs), wanted, rtol=1e-9, atol=1e-9)
            state, pieces = None, []
            for piece in x.split((2, 1, 2)):
                y, state = fast(piece, state)
                pieces.append(y)
            torch.testing.assert_close(torch.cat(pieces), wanted, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(state, wanted_state, rtol=1e-9, atol=1e-9)
            still = x[:1].expand(5, -1, -1, -1, -1)
            torch.testing.assert_close(fast(still), net(still), rtol=1e-9, atol=1e-9)
    finally:
        torch.set_num_threads(before)


def test_a_step_of_a_linear_layer_and_its_neurons_is_one_call():
    torch.manual_seed(4)
    net = Sequential(nn.Linear(70, 33), sl.LIF(v_threshold=0.1), nn.Linear(33, 9, bias=False))
    net.append(sl.PLIF(tau=2.0, v_threshold=0.05))
    fast = sl.inference(net)
    state = wanted_state = None
    for density in (0.05, 0.5, 1.0, 0.0):
        frame = (torch.rand(1, 2, 70) < density) * torch.rand(1, 2, 70)
        with torch.no_grad():
            wanted, wanted_state = net(frame, wanted_state)
        y, state = fast(frame, state)
        assert torch.equal(y, wanted)
        torch.testing.assert_close(state, wanted_state, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="expected one tensor of shape"):
        fast(frame, {"1": (torch.zeros(3, 33),)})
    seen = []
    fast.network[1].register_forward_hook(lambda *_: seen.append(1))
    fast(frame, state)
    assert seen, "a hook sees the neurons"


@pytest.mark.parametrize(
    "name", ["plif/digits", "glif/digits", "ide/digits", "dsr/digits", "fs/digits-events"]
)
def test_networks_of_all_methods_give_equal_scores(name):
    recipe = load_recipe(name, [])
    loaded = load_data(recipe)
    torch.manual_seed(0)
    network = methods()[recipe.method].build(recipe.network, loaded.spec).eval()
    inputs = next(data.Loader(loaded.test, 16).epoch(0)).inputs.float()
    with torch.no_grad(), sl.sparse("on"):
        wanted = network(inputs).scores
        scores = sl.inference(network, inputs)(inputs).scores
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_copied_is_told() -> None:
    net = Sequential(nn.Linear(4, 4), sl.LIF())
    prune.l1_unstructured(net[0], "weight", 0.5)
    net(torch.rand(2, 3, 4)).sum().backward()
    with pytest.raises(ValueError, match=r"Sequential cannot be copied .*prune.remove"):
        sl.inference(net)
    prune.remove(net[0], "weight")
    x = torch.rand(2, 3, 4)
    assert torch.equal(sl.inference(net)(x), net(x))
