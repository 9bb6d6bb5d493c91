"""Networks written for other libraries, on our neurons.

`compat.spikingjelly`: SpikingJelly's own names, so that code written for it runs as it is.
`from_snntorch(net)`, `from_norse(net)`: their networks, layer by layer, exact or refused.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("from_snntorch", "from_norse"):
        from spikeloom.compat import peers

        return getattr(peers, name)
    raise AttributeError(f"module 'spikeloom.compat' has no attribute {name!r}")
