"""Code that was written for SpikingJelly, on our neurons.

    python -m spikeloom.compat.spikingjelly train.py ARGS              the program as it is, or
    from spikeloom.compat.spikingjelly.activation_based import neuron  one line of it changed, or
    spikeloom.compat.spikingjelly.install()                            before its first import

`clock_driven` speaks as 0.0.0.0.12 and `activation_based` as 0.0.0.0.14 unless `use(version)` says
otherwise. What is not here is refused by name (`UNSUPPORTED`).
"""

from spikeloom.compat.spikingjelly.dialects import DIALECTS as DIALECTS
from spikeloom.compat.spikingjelly.hook import install as install
from spikeloom.compat.spikingjelly.hook import serve_ours
from spikeloom.compat.spikingjelly.hook import use as use
from spikeloom.compat.spikingjelly.ledger import UNSUPPORTED as UNSUPPORTED

serve_ours()
