"""A simulation's maps at the active inputs are the dense maps."""

import pytest
import torch
from torch import nn

from spikeloom.methods.ide import sparse

MAPS = [
    nn.Linear(20, 13),
    nn.Conv2d(6, 5, 5, padding=2, bias=False),
    nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
    nn.ConvTranspose2d(6, 4, 3, stride=2),
]


@pytest.mark.parametrize("synapse", MAPS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_on_spikes_equals_the_dense_map(synapse, density):
    torch.manual_seed(0)
    synapse = synapse.double()
    shape = (3, 20) if isinstance(synapse, nn.Linear) else (3, 6, 7, 9)
    x = (torch.rand(shape) < density).double()
    layouts = [x] if x.dim() == 2 else [x, x.to(memory_format=torch.channels_last)]
    with torch.no_grad():
        step = sparse.on_spikes(synapse)
        for spikes in layouts:
            for _ in range(2):
                torch.testing.assert_close(step(spikes), synapse(spikes), rtol=1e-12, atol=1e-12)


def test_what_has_no_kernel_stays_dense():
    half = nn.Linear(4, 4).half()
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    for synapse in (half, hooked, nn.ConvTranspose2d(2, 2, 3)):
        assert sparse.on_spikes(synapse) is synapse
    with torch.autocast("cpu"):
        linear = nn.Linear(4, 4)
        assert sparse.on_spikes(linear) is linear
