"""Words that a model with a closed vocabulary has never seen."""

import re

from longtake.model import VideoSpec


def unknown_words(spec: VideoSpec, text: str) -> list[str]:
    """Return the words of a prompt that a model with a closed vocabulary has never seen, in order, each once."""
    if spec.vocabulary is None:
        return []
    words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())
    return [word for word in dict.fromkeys(words) if not _known(word, spec.vocabulary)]


def _known(word: str, vocabulary: frozenset[str]) -> bool:
    return word in vocabulary or all(part in vocabulary for part in re.split("['-]", word))
