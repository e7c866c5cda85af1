"""Training the text encoder of the embedded model: name the object, the scene and the motion of a caption.

The tokenizer before it, a small byte-level BPE in the layout of CLIP's, is learnt from the captions.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.sprites import MOTIONS, OBJECTS, SCENES, Shot, caption, training_shots
from longtake.train.fit.settings import Batches
from longtake.train.fit.task import Scalars, Task


@dataclass(frozen=True, kw_only=True)
class TextSettings(Batches):
    """Batches and loss of the text encoder."""

    batch_size: int = 64
    """Captions per step."""
    max_tokens: int = 20
    """Length of a prompt in tokens, start and end included; captions have up to 16."""
    num_variants: int = 64
    """Captions of every shot that are trained on: the canonical one and paraphrases. With 16 the denoiser took words of
    other sentences for other objects."""
    early_weight: float = 0.1
    """Weight of the tokens before the end of a caption, which cannot know all of it."""


def captions_of(shot: Shot, num_variants: int) -> list[str]:
    """The canonical caption and its paraphrases, so many in all."""
    return [caption(shot, variant) for variant in range(num_variants)]


def tokens_of(tokenizer: CLIPTokenizer, prompts: list[str]) -> Int[Tensor, "prompts tokens"]:
    """Token ids, padded to the tokenizer's length."""
    settings = {"padding": "max_length", "truncation": True, "max_length": tokenizer.model_max_length}
    return tokenizer(prompts, return_tensors="pt", **settings).input_ids


class TextTask(Task):
    """Every token from the end of the caption on has to know all three answers; synonyms then look alike."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, settings: TextSettings) -> None:
        """Tokenize all training captions; `encoder` is trained in place."""
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.settings = settings
        shots = training_shots()
        self.tokens = tokens_of(
            tokenizer, [text for shot in shots for text in captions_of(shot, settings.num_variants)]
        )
        answers = [(OBJECTS.index(s.object), SCENES.index(s.scene), MOTIONS.index(s.motion)) for s in shots]
        self.answers = torch.tensor(answers).repeat_interleave(settings.num_variants, dim=0)
        self.end = end_of_text(tokenizer)
        width = encoder.config.hidden_size
        self.heads = nn.ModuleList(nn.Linear(width, len(names)) for names in (OBJECTS, SCENES, MOTIONS))
        self.both = nn.ModuleList([encoder, self.heads]).to(encoder.device)

    def module(self) -> nn.Module:
        """Encoder and answering heads; the heads are thrown away."""
        return self.both

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Cross entropy of the three answers at every token."""
        pick = torch.randint(len(self.tokens), (self.settings.batch_size,), generator=generator)
        tokens, answers = (each[pick].to(self.encoder.device) for each in (self.tokens, self.answers))
        hidden = self.encoder(tokens).last_hidden_state
        ended = torch.eq(tokens, self.end).cumsum(dim=1) > 0
        weight = torch.where(ended, 1.0, self.settings.early_weight)
        loss, right = hidden.new_zeros(()), torch.ones_like(ended)
        for head, answer in zip(self.heads, answers.T, strict=True):
            logits = head(hidden)
            everywhere = answer[:, None].expand_as(tokens)
            error = functional.cross_entropy(logits.transpose(1, 2), everywhere, reduction="none")
            loss = loss + (error * weight).mean()
            right &= logits.argmax(dim=-1) == answer[:, None]
        return loss, {"right": float(right[ended].float().mean())}

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Cosines between the embeddings of 64 captions; paraphrases of a shot lie next to each other."""
        hidden = self.encoder(self.tokens[: 64 * 47 : 47].to(self.encoder.device)).last_hidden_state[:, -1]
        cosines = functional.cosine_similarity(hidden[:, None], hidden[None], dim=-1)
        return functional.interpolate((cosines / 2 + 0.5).expand(1, 3, -1, -1), scale_factor=8)[0]

    def save(self, folder: Path) -> None:
        """Write `text_encoder/` and `tokenizer/`."""
        self.encoder.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")


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
