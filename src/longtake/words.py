"""Words of messages that depend on what they stand beside, and how a terminal is shown what comes from outside.

Imports nothing of longtake.
"""

import difflib
import unicodedata
from collections.abc import Iterable

_VOWELS = frozenset("AEIOaeio")
"""Not U, which UNet and UMT5 begin with."""
_VOWELS_SPELLED = frozenset("FHLMNRSX")
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Classes of signs that turn the direction of the text after them."""


def counted(number: int, noun: str) -> str:
    """Return how many of something there are: 1 frame, 1,200 frames."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def known_names(name: str, known: Iterable[str]) -> str:
    """Return the known names in words, after the one that is nearest to an unknown one."""
    names = sorted(known)
    # What every option begins with makes none of them near; by its last part alone one with dots is near, too.
    whole = {other.lstrip("-"): other for other in names}
    bare = {other.rpartition(".")[2]: whole[other] for other in reversed(whole)} | whole
    nearest = [bare[other] for other in difflib.get_close_matches(name.lstrip("-"), bare, n=1, cutoff=0.5)]
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}known: {', '.join(names)}"


def an(name: object) -> str:
    """Return a name, mostly of a class, after its article: a WanPipeline, an AllegroPipeline, an LTXPipeline."""
    said = str(name)
    # Of some capitals the name itself begins with a vowel, where they are spelled out.
    is_spelled = said[:1] in _VOWELS_SPELLED and said[1:2].isupper()
    return f"{'an' if is_spelled or said[:1] in _VOWELS else 'a'} {said}"


def plain(text: str) -> str:
    """Return text from outside as one line for a terminal: what would move its cursor, or turn its text, is escaped.

    A line break is \\n, a terminal's escape \\x1b; letters and signs of every language stay.
    """
    return "".join(sign.encode("unicode_escape").decode() if _moves(sign) else sign for sign in text)


def _moves(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") or unicodedata.bidirectional(sign) in _TURNS
