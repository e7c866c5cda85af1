"""A small byte-level BPE tokenizer in CLIP's layout, trained on the captions of the sprite worlds."""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: Iterable[str], max_length: int) -> CLIPTokenizer:
    """Learn the words of `captions`; whatever else is typed falls into letters and bytes.

    `max_length` counts the start and end tokens; prompts are padded to it with end tokens.
    """
    backend = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    model = json.loads(learner.to_str())["model"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    words = list(model["vocab"]) + [f"{letter}</w>" for letter in letters if f"{letter}</w>" not in model["vocab"]]
    vocabulary = {word: number for number, word in enumerate([*words, START, END])}
    merges: list[Any] = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def end_of_text(tokenizer: CLIPTokenizer) -> int:
    """Id of the token after a prompt, which also fills it up."""
    return tokenizer.get_vocab()[END]
