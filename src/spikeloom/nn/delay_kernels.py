"""The kernels of learned delays: sums over the delays of rows that lie side by side in memory.

`past` `[D + T, B, W]` holds the D steps before the first too; `g` `[D + 1, W]`; all others are
`[T, B, W]` or as said. `first` to `last`: samples. The loops are written out three times: one whose
strides were arguments took 7 to 67 % longer (forward and backward, layers of `benchmarks/delays`).
"""

# pyright: reportCallIssue=false
from spikeloom.compiler.cpu.jit import driver, sums


@sums
def add_products(a, b, out):
    for w in range(len(out)):
        out[w] += a[w] * b[w]


@driver
def delayed(first, last, past, g, out, steps, batch, width, longest):
    """out_t += sum over tau of g_tau past_{D + t - tau}."""
    for n in range(first, last):
        for t in range(steps):
            target = (t * batch + n) * width
            for tau in range(longest + 1):
                source = ((longest + t - tau) * batch + n) * width
                add_products(
                    g[tau * width : (tau + 1) * width],
                    past[source : source + width],
                    out[target : target + width],
                )


@driver
def delayed_input(first, last, grad, g, out, steps, batch, width, longest):
    """out `[D + T, B, W]`: out_{D + t - tau} += g_tau grad_t."""
    for n in range(first, last):
        for t in range(steps):
            source = (t * batch + n) * width
            for tau in range(longest + 1):
                target = ((longest + t - tau) * batch + n) * width
                add_products(
                    g[tau * width : (tau + 1) * width],
                    grad[source : source + width],
                    out[target : target + width],
                )


@driver
def delayed_taps(first, last, past, grad, out, steps, batch, width, longest):
    """out `[B, D + 1, W]`: out_tau += sum over t of grad_t past_{D + t - tau}."""
    for n in range(first, last):
        for t in range(steps):
            other = (t * batch + n) * width
            for tau in range(longest + 1):
                source = ((longest + t - tau) * batch + n) * width
                target = (n * (longest + 1) + tau) * width
                add_products(
                    past[source : source + width],
                    grad[other : other + width],
                    out[target : target + width],
                )
