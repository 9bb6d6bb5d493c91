"""`spikeloom zoo`: trained networks that come with the package."""

from typing import Annotated

import typer

from spikeloom.cli import options
from spikeloom.cli.output import print_json, print_table
from spikeloom.units import size


def zoo(
    name: Annotated[
        str | None, typer.Argument(help="Show the card of this network, as plif-digits.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List trained networks that come with the package; each is used as zoo/NAME.

    `eval`, `predict` and start= take such a name in place of a run folder.
    """
    from spikeloom.zoo import FOLDER, PREFIX, card, names

    if name is not None:
        network = card(name)
        if as_json:
            print_json(network.model_dump())
        else:
            print_table(
                ("", PREFIX + network.name),
                [
                    ("title", network.title),
                    ("trained by", network.command),
                    ("seed", str(network.seed)),
                    ("accuracy-B", f"{network.accuracy_b:.2%} of {network.samples:,} test samples"),
                    ("accuracy-A", f"{network.accuracy_a:.2%}, best epoch of the same training"),
                    ("parameters", f"{network.parameters:,}, {network.dtype}"),
                    ("spikes", f"{network.spikes_per_neuron:.3f} a neuron and sample"),
                    *(
                        (f"rate of {layer}", f"{r:.4f}")
                        for layer, r in network.firing_rates.items()
                    ),
                    ("energy", f"{network.picojoule / 1e6:.4f} uJ a sample"),
                    ("without spikes", f"{network.dense_picojoule / 1e6:.4f} uJ"),
                    ("trained on", f"{network.machine}, {network.versions}"),
                    ("SHA-256", network.sha256),
                ],
            )
        return
    cards = [card(each) for each in names()]
    if as_json:
        print_json([each.model_dump() for each in cards])
        return
    print_table(
        ("network", "data set", "accuracy-B", "accuracy-A", "parameters", "file", "energy, uJ"),
        [
            (
                PREFIX + each.name,
                each.data,
                f"{each.accuracy_b:.2%}",
                f"{each.accuracy_a:.2%}",
                f"{each.parameters:,}",
                size((FOLDER / f"{each.name}.safetensors").stat().st_size),
                f"{each.picojoule / 1e6:.4f}",
            )
            for each in cards
        ],
    )
