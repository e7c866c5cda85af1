"""Words of messages that depend on what they stand beside. Imports nothing."""

_VOWELS = frozenset("AEIOaeio")
"""Not U, which UNet and UMT5 begin with."""
_VOWELS_SPELLED = frozenset("FHLMNRSX")

def counted(number: int, noun: str) -> str:
    """Return how many of something there are: 1 frame, 1,200 frames."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def an(name: object) -> str:
    """Return a name, mostly of a class, after its article: a WanPipeline, an AllegroPipeline, an LTXPipeline."""
    said = str(name)
    # Of some capitals the name itself begins with a vowel, where they are spelled out.
    is_spelled = said[:1] in _VOWELS_SPELLED and said[1:2].isupper()
    return f"{'an' if is_spelled or said[:1] in _VOWELS else 'a'} {said}"
