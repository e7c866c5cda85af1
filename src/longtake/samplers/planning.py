"""What the plans of all samplers share: a setting, the check that a plan can be carried out, and what its owner should
know before the start.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import CapabilityError, InputError
from longtake.model import Continuation, Infill, Timing, ToldFps, VideoSpec
from longtake.request import PromptTimeline, Request, num_branches
from longtake.sampler import Plan, Sampler, TaskSampler
from longtake.words import counted, plain

UNCONDITIONAL = PromptTimeline.constant("unconditional")
"""What the report says of a model that reads no text, where no prompt was given."""

DEFAULT_STEPS = 30
MOST_FRAMES = 1_000_000
_SHOWN = 80
_NEAR = 0.65
"""How alike a word must be to one that is named in its place: less joins 'dragon' and 'down'."""
_TOLD = 3
_NAMED = 12


class LackingError(CapabilityError):
    """A model without what a sampler needs of every model."""

    def __init__(self, sampler: str, needs: str, model: str, others: Iterable[str] = ()) -> None:
        self.told = (sampler, needs, model)
        names = ", ".join(others)
        these = f"of those in the package it runs on {names}; " if names else ""
        super().__init__(
            f"{sampler} needs {needs}, which the model {model} does not offer; {these}"
            "'longtake models' shows which model runs with which sampler"
        )


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """In which pieces the frames of a video come out, and how far one state of the run reaches."""

    first: int
    """Frames of the first piece."""
    later: int
    """Frames of every other one, or fewer."""
    begun: int
    """Frames that are half made while those before them come out."""
    free: int | None
    """Up to so many frames the run does not know yet where the video ends; None where it has no end."""
    holds_from: Callable[[int], int]
    """Returns from which frame on a prompt holds fully that begins at a frame: later, where frames share one."""

    def before(self, frame: int) -> int:
        """Return a number of frames at which, or at most a piece later, yet not after `frame`, a piece ends; 0 where
        the first one does not end by then."""
        return 0 if frame < self.first else max(1, frame - self.later + 1)


def latent_start(frame: int, timing: Timing) -> int:
    """Return the first frame from this one on with which a latent begins, and so whatever has a prompt of its own."""
    return timing.pixel_frames(timing.latent_frames(frame)) if frame else 0


def chosen_steps(request: Request, spec: VideoSpec, own: int = DEFAULT_STEPS) -> int:
    """Return the denoising steps: those that the request wants, else those that the model was distilled to, else those
    of its pipeline's call, else the sampler's own."""
    return request.steps or len(spec.sigmas) or (spec.call or {}).get("num_inference_steps") or own


def chosen_window(length: int | None, spec: VideoSpec) -> int:
    """Return the latent frames of a window: those wanted, else the model's own. Raises InputError for more of them."""
    if length is not None and not 1 <= length <= spec.num_frames:
        raise InputError(
            f"context_length is {length}; it must be 1 to {spec.num_frames}, the latent frames that {spec.name} takes "
            "at once (another --window gives it others)"
        )
    return spec.num_frames if length is None else length


def windows_of(calls: int, frames: int, spec: VideoSpec) -> int | float:
    """Return calls of the network on so many latent frames as forwards, which are of windows of the model's own length;
    an int where they are whole ones."""
    whole, rest = divmod(calls * frames, spec.num_frames)
    return calls * frames / spec.num_frames if rest else whole


@dataclass(frozen=True, kw_only=True)
class Stochastic(Sampler):
    """A sampler whose steps may add noise."""

    eta: float = 0.0
    """Fresh noise per step: 0 is DDIM, 1 is DDPM."""

    def check_eta(self) -> None:
        """Raise InputError for a share of fresh noise outside 0 to 1."""
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta is {self.eta}; it must lie between 0 (DDIM: no fresh noise) and 1 (as much as DDPM)")


@dataclass(frozen=True, kw_only=True)
class Batched(Sampler):
    """A sampler whose windows need not be denoised one by one."""

    window_batch: int = 1
    """Windows in one call of the network; more is faster on a GPU and takes more memory."""

    def check_window_batch(self) -> None:
        """Raise InputError for a batch of nothing."""
        if self.window_batch < 1:
            raise InputError(f"window_batch is {self.window_batch}; it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Joint(Stochastic):
    """A sampler that denoises all frames of a video together."""

    blend: int = 0
    """Frames over which one prompt turns into the next; 0 switches at once."""
    decode_batch: int = 8
    """Latent frames of the finished video that are decoded together."""

    def check_joint(self, request: Request, spec: VideoSpec) -> None:
        """Raise InputError for what no such sampler takes."""
        if request.frames is None:
            raise InputError(f"{self.name} denoises all frames together and cannot run endlessly; give --frames")
        if request.frames > MOST_FRAMES:
            raise InputError(
                f"{self.name} holds all {request.frames} frames at once; ask for {MOST_FRAMES} at most, or use fifo"
            )
        self.check_eta()
        if self.decode_batch < 1:
            raise InputError(f"decode_batch is {self.decode_batch}; it must be 1 or more")
        if self.blend < 0:
            raise InputError(f"blend is {self.blend}; it must be 0 or more")
        if self.blend:
            _check_blend(self.blend, request, spec)


def _check_blend(blend: int, request: Request, spec: VideoSpec) -> None:
    if not spec.blends:
        raise InputError(f"blend needs prompts that have a mean, which those of {spec.name} have not; leave it out")
    starts = request.prompts.starts
    if len(starts) == 1:
        raise InputError("blend has no effect on a single prompt; leave it out, or give --prompts")
    shortest = min(stop - start for start, stop in zip(starts, starts[1:], strict=False))
    if blend > shortest:
        raise InputError(f"a blend of {blend} frames is longer than a prompt of {shortest}; make it shorter")


def checked_plan(spec: VideoSpec, request: Request, sampler: Sampler, part: tuple[int, int] | None = None) -> Plan:
    """Return the plan of a video, or of these frames of it.

    Raises CapabilityError where the model lacks what the sampler needs, or the sampler cannot make a part alone;
    InputError for settings that clash, and for frames that the video does not have.
    """
    missing = [capability.__name__ for capability in sampler.requires if capability not in spec.capabilities]
    if missing and spec.call is not None:
        raise no_adapter(sampler.name, " and ".join(missing), spec)
    if missing:
        raise LackingError(sampler.name, " and ".join(missing), spec.name)
    if spec.clip_decoder and not isinstance(sampler, TaskSampler):
        raise CapabilityError(f"{spec.name} decodes whole calls of its network, not streams of frames; use nuwa-xl")
    plan = sampler.plan(request, spec)
    if spec.num_levels is not None and plan.num_levels > spec.num_levels:
        fewer = "fewer --sampler.partitions" if spec.num_frames <= spec.num_levels else "a shorter window (num_frames)"
        raise InputError(
            f"{plan.num_levels} denoising steps are more than the {spec.num_levels} noise levels that {spec.name} was "
            f"trained at; use {fewer if sampler.name == 'fifo' else 'fewer --steps'}"
        )
    if request.init is not None and not plan.given:
        raise CapabilityError(
            f"{sampler.name} makes all frames together and cannot begin with given ones; leave --init out, or use "
            "autoregressive, chunked, fifo or nuwa-xl"
        )
    if spec.vocabulary == frozenset() and num_branches(plan.guidance) > 1:
        raise InputError(f"--guidance has no effect on {spec.name}, which reads no text; leave it out")
    if spec.learnt_guidance is not None and plan.guidance != 1:
        raise InputError(
            f"{spec.name} has learnt to say guidance {spec.learnt_guidance:g} in one branch and takes 1 alone, "
            f"not {plan.guidance:g}; leave --guidance out, or choose {_unlearnt(spec)}"
        )
    _check_negative(plan)
    if request.told_fps is not None and ToldFps not in spec.capabilities:
        raise InputError(f"told_fps has no effect on {spec.name}, which asks for no frames per second; leave it out")
    if part is None:
        return plan
    if not isinstance(sampler, TaskSampler):
        raise CapabilityError(f"{sampler.name} cannot make a part of a video alone; make all of it, or use nuwa-xl")
    return sampler.part(plan, range(*part))


def one_branch(option: str, plan: Plan) -> InputError:
    """Return the refusal of what takes both halves of guidance, where a plan has one."""
    spec = plan.spec
    if spec.vocabulary == frozenset():
        return InputError(f"{option} has no effect on {spec.name}, which reads no text; leave it out")
    if spec.learnt_guidance is not None:
        return InputError(
            f"{option} has no effect on {spec.name}, which has learnt to say guidance {spec.learnt_guidance:g} in one "
            f"branch; leave it out, or choose {_unlearnt(spec)}"
        )
    return InputError(f"{option} has no effect at guidance {plan.guidance:g}; leave it out, or give another --guidance")


def _unlearnt(spec: VideoSpec) -> str:
    """Return what takes a guidance in the place of a model that has learnt one."""
    if spec.takes_guidance:
        return f"the model {spec.takes_guidance}, which takes any guidance"
    return "weights that have not learnt it"


def _check_negative(plan: Plan) -> None:
    """Raise InputError for a negative prompt that no call of the network looks at. Of a pipeline that is run as a whole
    that is known where it takes a guidance."""
    is_known = plan.spec.call is None or "guidance_scale" in plan.spec.call
    if plan.request.negative_prompt and is_known and plan.guidances == {1}:
        raise one_branch("--negative-prompt", plan)


def check_one_prompt(name: str, request: Request, spec: VideoSpec) -> None:
    """Raise InputError for several prompts of a model that takes one a window, where the window is the whole video."""
    if spec.prompts == "window" and len(request.prompts.spans(request.frames)) > 1:
        raise InputError(
            f"{name} denoises the whole video as one window, and {spec.name} takes one prompt a window; "
            "give one prompt, or use chunked"
        )


def no_adapter(name: str, needs: str, spec: VideoSpec) -> CapabilityError:
    """Return the refusal of a sampler by that name, which needs what the call of a whole pipeline does not show."""
    why = f" ({spec.no_levels})" if spec.no_levels else ""
    return CapabilityError(
        f"{name} needs {needs}; longtake has no adapter for {spec.name}{why} and runs its whole pipeline, which shows "
        "no x0 and takes no noise levels: use --sampler chunked"
    )


def plan_warnings(plan: Plan, others: Sequence[PromptTimeline] = ()) -> tuple[str, ...]:
    """Return what the user should know before the start; `others` are the prompts of further videos like this one."""
    spec, request, warnings = plan.spec, plan.request, []
    stories = (request.prompts, *others)
    spans = [story.spans(request.frames) for story in stories]
    texts = [*(text for story in spans for _, _, text in story), request.negative_prompt]
    unknown = unknown_words(spec, " ".join(texts))
    if spec.vocabulary == frozenset() and request.prompts != UNCONDITIONAL:
        warnings.append(f"the model {spec.name} reads no text: the prompt changes nothing")
    elif spec.vocabulary and unknown:
        warnings.append(
            f"the model {spec.name} does not know {_named(unknown, spec.vocabulary)}; its {len(spec.vocabulary)} words "
            "are listed by 'longtake models --json', and docs/first-video.md has a table of what the embedded models "
            "can be asked for"
        )
    warnings += cut_prompts(spec, texts)
    if spec.needs_pictures and spec.call is None and not {Infill, Continuation} & set(plan.settings.requires):
        warnings.append(
            f"the model {spec.name} was always shown a picture in training, and {plan.settings.name} shows it none: "
            "use autoregressive with --init, or a text-to-video model"
        )
    if spec.drops_sound:
        warnings.append(f"the model {spec.name} makes sound, too; longtake makes its picture alone")
    if request.init is not None:
        # Imports av.
        from longtake.video.read import how_fitted

        fitted = how_fitted(Path(request.init).expanduser(), (spec.height, spec.width))
        warnings += [] if fitted is None else [fitted]
    starts = [start for story in stories for start in story.starts]
    late = [start for start in starts if request.frames is not None and start >= request.frames]
    if late:
        warnings.append(
            f"the video ends at frame {request.frames}; the prompts from frame {min(late)} on are not reached"
        )
    if spec.prompts == "window" and max(map(len, spans)) > 1:
        warnings.append(
            f"the model {spec.name} takes one prompt for all frames of a window: prompts change from window to window, "
            "and a window has the prompt of its middle frame"
        )
    return (*warnings, *plan.warnings)


def check_whole(request: Request, spec: VideoSpec, unused: Sequence[str]) -> None:
    """Raise InputError for settings without effect where a pipeline makes whole clips, `unused` among them, and for a
    picture that it needs or does not take."""
    options = {
        "guidance_scale": ("--guidance", request.guidance),
        "negative_prompt": ("--negative-prompt", request.negative_prompt),
    }
    unused = [
        *unused,
        *(option for name, (option, value) in options.items() if value and name not in (spec.call or {})),
    ]
    if request.init is not None and not spec.continues_from:
        unused = [*unused, "--init"]
    if unused:
        raise InputError(f"{unused[0]} has no effect on {spec.name}, whose own pipeline takes none; leave it out")
    if spec.needs_pictures and request.init is None:
        raise InputError(f"the pipeline of {spec.name} needs a picture to begin with; give one with --init")


def whole_warnings(spec: VideoSpec) -> tuple[str, ...]:
    """Return what is to be known of a model that makes whole clips."""
    shown = f"goes on from the last {spec.continues_from} of the clip before, as pixels that are encoded anew"
    if not spec.continues_from:
        shown = "knows nothing of the one before"
    return (
        f"longtake has no adapter for {spec.name} and runs its whole pipeline: every clip of {spec.num_frames} frames "
        f"{shown}; of the memory, what the pipeline works with is not counted",
    )


def unknown_words(spec: VideoSpec, text: str) -> list[str]:
    """Return the words of a prompt that a model with a closed vocabulary has never seen, in order, each once."""
    if spec.vocabulary is None:
        return []
    words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())
    return [word for word in dict.fromkeys(words) if not _known(word, spec.vocabulary)]


def cut_prompts(spec: VideoSpec, texts: Sequence[str]) -> list[str]:
    """Return a warning for every prompt whose end the text encoder has no room for, with what is lost; of many, the
    first ones and how many there are. None where the tokenizer is not on this disk."""
    cut = list(_cut(spec, texts))
    if len(cut) > _TOLD:
        cut = [*cut[:_TOLD], f"{len(cut) - _TOLD} further prompts are too long for {spec.name} as well"]
    return cut


def _cut(spec: VideoSpec, texts: Sequence[str]) -> Iterator[str]:
    # A token has a character at least, and the encoder signs of its own.
    long = [text for text in dict.fromkeys(texts) if len(text) + 2 > (spec.prompt_tokens or len(text) + 2)]
    if not long or spec.tokenizer is None or spec.prompt_tokens is None:
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(spec.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for text in long:
        tokens = tokenizer.encode(text)
        places = [place for place, own in zip(tokens.offsets, tokens.special_tokens_mask, strict=True) if not own]
        room = spec.prompt_tokens - (len(tokens.ids) - len(places))
        if len(places) > room:
            yield (
                f"the prompt {_short(text)} is too long for {spec.name}, which reads its first {room} tokens (words or "
                f"pieces of words) of {len(places)}; say it in fewer words, since its end is not read, from "
                f"{_short(_whole_words(text, places[room][0]))} on"
            )


def _whole_words(text: str, place: int) -> str:
    """Return the end of a text from the word on that has the character at this place."""
    rest = text[place:].lstrip()
    begin = len(text) - len(rest)
    return text[text.rfind(" ", 0, begin) + 1 or begin :]


def _named(words: Sequence[str], vocabulary: frozenset[str]) -> str:
    """Return unknown words, each with what is near; of many the first ones and how many there are."""
    first = ", ".join(_near(word, vocabulary) for word in words[:_NAMED])
    return first if len(words) <= _NAMED else f"{first} and {counted(len(words) - _NAMED, 'other word')}"


def _near(word: str, vocabulary: frozenset[str]) -> str:
    nearest = difflib.get_close_matches(word, sorted(vocabulary), n=1, cutoff=_NEAR)
    return f"{word!r} (but {nearest[0]!r})" if nearest else repr(word)


def _short(text: str) -> str:
    text = plain(text)
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def _known(word: str, vocabulary: frozenset[str]) -> bool:
    return word in vocabulary or all(part in vocabulary for part in re.split("['-]", word))
