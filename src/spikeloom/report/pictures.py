"""Small images inside the page, as PNG."""

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def picture(image: "Tensor") -> str:
    """The address (a data URI) of an 8-bit image `[C, H, W]`, or of event frames `[T, C, H, W]`
    summed over time; empty for what is neither.
    """
    from PIL.Image import fromarray

    if image.dim() == 4:
        pixels, mode = _event_picture(image), "RGBA"
    elif image.dim() == 3 and image.shape[0] in (1, 3):
        pixels = image.permute(1, 2, 0).squeeze(-1)
        mode = "L" if image.shape[0] == 1 else "RGB"
    else:
        return ""
    buffer = io.BytesIO()
    drawn = fromarray(pixels.byte().contiguous().numpy(), mode)
    drawn.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _event_picture(frames: "Tensor") -> "Tensor":
    """RGBA `[H, W, 4]`: off events orange, on events blue, opaque where there are many."""
    import torch

    counts = frames.double().sum(0)
    counts = torch.stack([counts[0], counts[1:].sum(0)])
    total = counts.sum(0)
    share = counts / total.clamp(min=1e-9)
    hues = torch.tensor([[235.0, 104, 52], [57, 135, 229]], dtype=torch.float64)
    colour = torch.einsum("phw,pc->hwc", share, hues)
    ceiling = total.flatten().quantile(0.99).clamp(min=1)
    opacity = (total / ceiling).clamp(max=1).sqrt() * 255
    return torch.cat([colour, opacity[..., None]], -1).round()
