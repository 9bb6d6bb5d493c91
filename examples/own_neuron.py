"""A neuron of one's own: an adaptive threshold whose strength is learned per channel.

    charge  h_t = v_{t-1} + (x_t - v_{t-1}) / 2
    fire    s_t = Theta(h_t - 1 - beta a_{t-1})
    reset   v_t = h_t (1 - s_t)
    adapt   a_t = 0.8 a_{t-1} + s_t

One time step in plain PyTorch is all there is to write: it runs compiled, with its gradients.
"""

import torch
from torch import Tensor

import spikeloom as sl


class Adaptive(sl.Neuron):
    states = ("v", "a")
    observed = ("h",)  # what `step` returns after the new states; for records only

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strength = torch.nn.Parameter(torch.zeros(channels))
        self.decay = 0.8  # does not learn: a plain number

    def coefs(self) -> dict[str, Tensor]:
        return {"beta": torch.nn.functional.softplus(self.strength)}

    def step(self, x: Tensor, v: Tensor, a: Tensor, *, beta: Tensor) -> tuple[Tensor, ...]:
        h = v + (x - v) / 2
        s = self.surrogate(h - 1 - beta * a)
        return s, h * (1 - s), self.decay * a + s, h


def main() -> torch.Tensor:
    torch.manual_seed(0)
    neuron = Adaptive(channels=3)
    x = torch.full((20, 1, 3), 3.0)  # [T, B, C]
    run = neuron.run(x, record=("h", "a"))
    print("spikes of channel 0:", run.spikes[:, 0, 0].int().tolist())
    print("adaptation after 20 steps:", [round(a, 2) for a in run.state[1][0].tolist()])

    neuron(x).mean().backward()
    print("gradient per channel:", tuple(neuron.strength.grad.shape))
    print(sl.explain(neuron))
    return run.spikes


if __name__ == "__main__":
    main()
