"""Random damage to files, for hypothesis."""

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` after up to three accidents: bytes flipped, lost, added, or overwritten."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        # Most of a file is pixels; what steers a reader lies near the ends.
        start = st.integers(0, min(len(result), 64))
        end = st.integers(max(0, len(result) - 64), len(result))
        at = draw(start | end | st.integers(0, len(result)))
        match draw(st.sampled_from(("flip", "cut", "remove", "insert", "extreme"))):
            case "flip" if at < len(result):
                result[at] ^= draw(st.integers(1, 255))
            case "cut":
                del result[at:]
            case "remove":
                del result[at : at + draw(st.integers(1, 16))]
            case "insert":
                result[at:at] = draw(st.binary(min_size=1, max_size=16))
            case _:
                word = draw(
                    st.sampled_from((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\xff" * 8))
                )
                result[at : at + len(word)] = word
    return bytes(result)
