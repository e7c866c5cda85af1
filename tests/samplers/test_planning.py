from dataclasses import replace

from longtake.models.toy_spec import TOY
from longtake.samplers.planning import unknown_words


def test_unknown_words_are_listed_once_in_order() -> None:
    spec = replace(TOY, vocabulary=frozenset({"a", "red", "car", "hot", "air", "don't"}))
    assert unknown_words(spec, "A red zebra, a zebra; hot-air quagga. Don't!") == ["zebra", "quagga"]
    assert unknown_words(TOY, "anything") == []
