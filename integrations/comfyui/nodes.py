"""The nodes: a model, prompts over time, a sampler, the plan, and the video itself."""

# ComfyUI is installed beside this, never with it.
# pyright: reportMissingImports=false

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, InputImpl, io, ui
from PIL import Image

from longtake import generate
from longtake.apps.generate.command import settled
from longtake.apps.generate.job import Job, make_job
from longtake.apps.generate.settings import DEFAULT_SAMPLER, VideoSettings, Weights
from longtake.apps.plan.costs import estimate
from longtake.apps.plan.view import planned
from longtake.errors import InputError
from longtake.model import VideoModel
from longtake.models import DEFAULT_MODEL, MODELS
from longtake.models.hub.find import INDEX
from longtake.models.hub.loading import Loading
from longtake.models.hub.precision import choose_hardware
from longtake.models.kept import KeptModel
from longtake.request import Request
from longtake.sampler import Sampler
from longtake.samplers import SAMPLERS, sampler_class
from longtake.typed import to_json
from longtake.video.files import frame_file
from longtake.video.formats import FORMATS
from longtake.video.output import Output
from longtake.video.read import read_last

from .fields import PICTURES, inputs_of, read_inputs

CATEGORY = "longtake"
PROMPT = "a rocket flies up through the night sky"
PREFIX = "longtake/video"
ModelOf = io.Custom("LONGTAKE_MODEL")
SamplerOf = io.Custom("LONGTAKE_SAMPLER")
PromptsOf = io.Custom("LONGTAKE_PROMPTS")


class ChosenModel:
    """A model that is loaded when a video first needs it; plans do without."""

    def __init__(self, name: str, weights: Weights, keep_loaded: bool) -> None:
        self.name, self.weights, self.keep_loaded = name, weights, keep_loaded
        self._kept = KeptModel()

    def ready(self, job: Job) -> tuple[Job, VideoModel]:
        """Return the model of a job, and the job with what depends on this machine. Lets go of what ComfyUI holds on
        the GPU."""
        hardware = choose_hardware(job.order.device, job.order.dtype, job.spec.released)
        if hardware.device != "cpu":
            comfy.model_management.unload_all_models()
        job = settled(job, hardware)
        return job, self._kept.get(job.order.model, hardware, job.order.loading)

    def rest(self) -> None:
        """Let go of the weights, unless they are to be kept."""
        if not self.keep_loaded:
            self._kept.drop()
            comfy.model_management.soft_empty_cache()


class LoadModelNode(io.ComfyNode):
    """A model: one inside the package, or a folder as diffusers saves a pipeline."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return what the node looks like."""
        return io.Schema(
            node_id="LongtakeModel",
            display_name="Load Model (longtake)",
            category=CATEGORY,
            description="A model that longtake carries, or a folder as diffusers saves a pipeline in models/diffusers.",
            inputs=[
                io.Combo.Input("model", options=[*MODELS, *diffusers_folders()], default=DEFAULT_MODEL),
                io.String.Input(
                    "path",
                    optional=True,
                    default="",
                    placeholder="none",
                    tooltip="In place of model: a folder elsewhere, a hub id in the local cache, or with base a file",
                ),
                *inputs_of(Weights),
                *inputs_of(Loading),
                io.Boolean.Input(
                    "keep_loaded",
                    optional=True,
                    default=True,
                    tooltip="Keep the weights for the next video; off makes room for other nodes",
                ),
            ],
            outputs=[ModelOf.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: str, path: str = "", keep_loaded: bool = True, **given: Any) -> io.NodeOutput:
        """Return the model, not loaded yet."""
        loading = to_json(read_inputs(Loading, given, "longtake's model"))
        weights = read_inputs(Weights, given, "longtake's model", loading=loading)
        return io.NodeOutput(ChosenModel(path.strip() or diffusers_folders().get(model, model), weights, keep_loaded))


class PromptsNode(io.ComfyNode):
    """Several prompts in turn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return what the node looks like."""
        return io.Schema(
            node_id="LongtakePrompts",
            display_name="Prompt Timeline (longtake)",
            category=CATEGORY,
            description="Prompts and when each holds: 'a | b' in equal parts, '[0s: a] [8s: b]', JSON by frames, a "
            "list with start_time and end_time, or subtitles.",
            inputs=[
                io.String.Input(
                    "text",
                    default=f"{PROMPT} | a penguin dives down under water",
                    multiline=True,
                    dynamic_prompts=False,
                )
            ],
            outputs=[PromptsOf.Output(display_name="timeline")],
        )

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        """Return the timeline as it is spelled; the video knows its frames and seconds. Never reads a file."""
        if os.path.exists(text.strip()):
            raise InputError("the timeline names a file of this machine; give the text itself")
        return io.NodeOutput(text)


def sampler_node(name: str) -> type[io.ComfyNode]:
    """Return the node of a sampler: its settings are the fields of its dataclass."""
    kind = sampler_class(name)

    class SamplerNode(io.ComfyNode):
        """A sampler with its settings."""

        @classmethod
        def define_schema(cls) -> io.Schema:
            """Return what the node looks like."""
            return io.Schema(
                node_id=f"Longtake{kind.__name__}",
                display_name=f"{name} (longtake)",
                category=f"{CATEGORY}/samplers",
                description=(kind.__doc__ or "").split("\n\n")[0],
                inputs=inputs_of(kind),
                outputs=[SamplerOf.Output(display_name="sampler")],
            )

        @classmethod
        def execute(cls, **given: Any) -> io.NodeOutput:
            """Return the sampler."""
            return io.NodeOutput(read_inputs(kind, with_files(given), name))

    return SamplerNode


def video_inputs() -> list[io.Input]:
    """Return the inputs that say which video is made; those of the plan and of the video."""
    endings = [one.ending.removeprefix(".") for one in FORMATS.values() if one.ending]
    return [
        ModelOf.Input("model"),
        io.String.Input("prompt", optional=True, default=PROMPT, multiline=True, tooltip="What the video shows"),
        PromptsOf.Input("timeline", optional=True, tooltip="Several prompts in turn, in place of prompt"),
        SamplerOf.Input("sampler", optional=True, tooltip=f"By default {DEFAULT_SAMPLER} with its own settings"),
        *inputs_of(Request),
        *inputs_of(Output),
        io.Combo.Input("format", optional=True, options=endings, default=endings[0]),
        io.String.Input(
            "filename_prefix",
            optional=True,
            default=PREFIX,
            tooltip="In ComfyUI's output folder. The rest of the name follows from all that decides the video: the "
            "same graph goes on with the same file",
        ),
    ]


def asked_job(
    model: ChosenModel,
    prompt: str,
    format: str,
    filename_prefix: str,
    timeline: str | None,
    sampler: Sampler | None,
    given: Mapping[str, Any],
) -> Job:
    """Return what a graph asks for, checked. Raises as `make_job` does."""
    unsaid = {"starts": [0], "texts": ["what the node says"]}
    settings = VideoSettings(
        request=read_inputs(Request, with_files(given), "the video", prompts=unsaid),
        output=read_inputs(Output, given, "the file"),
        model=model.name,
        loading=model.weights.loading,
        device=model.weights.device,
        dtype=model.weights.dtype,
        method=sampler or sampler_class(DEFAULT_SAMPLER)(),
        prompt=None if timeline else prompt or None,
        prompts=timeline,
    )
    content = json.dumps([to_json(settings), type(settings.method).__name__, format], sort_keys=True)
    name = f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.{format}"
    folder, stem, *_ = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
    output = replace(settings.output, path=Path(folder) / f"{stem}_{name}")
    return make_job(replace(settings, output=output), given=[])


class PlanNode(io.ComfyNode):
    """What a video would take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return what the node looks like."""
        return io.Schema(
            node_id="LongtakePlan",
            display_name="Plan Long Video (longtake)",
            category=CATEGORY,
            description="What a video would take: calls, time where it is known, memory and disk. Loads no weights.",
            inputs=video_inputs(),
            outputs=[io.String.Output(display_name="plan")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: ChosenModel,
        prompt: str = "",
        format: str = "mp4",
        filename_prefix: str = PREFIX,
        timeline: str | None = None,
        sampler: Sampler | None = None,
        **given: Any,
    ) -> io.NodeOutput:
        """Return the plan as text, and show it."""
        job = asked_job(model, prompt, format, filename_prefix, timeline, sampler, given)
        _, lines = planned(job, estimate(job))
        text = "\n".join([*lines, *(f"warning: {warning}" for warning in job.warnings)])
        return io.NodeOutput(text, ui=ui.PreviewText(text))


class LongVideoNode(io.ComfyNode):
    """A long video, written as it is made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return what the node looks like."""
        last = "How many of the last frames to return as images"
        return io.Schema(
            node_id="LongtakeVideo",
            display_name="Long Video (longtake)",
            category=CATEGORY,
            description="Writes the video as it is made, in constant memory. Interrupted, the same graph goes on.",
            inputs=[
                *video_inputs(),
                io.Int.Input("last_frames", optional=True, default=16, min=1, max=1024, tooltip=last),
            ],
            outputs=[
                io.String.Output(display_name="path"),
                io.Image.Output(display_name="last frames"),
                io.String.Output(display_name="report"),
                io.Video.Output(display_name="video"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: ChosenModel,
        prompt: str = "",
        format: str = "mp4",
        filename_prefix: str = PREFIX,
        last_frames: int = 16,
        timeline: str | None = None,
        sampler: Sampler | None = None,
        **given: Any,
    ) -> io.NodeOutput:
        """Make the video, go on with it, or find it made."""
        # ComfyUI's mode without gradients holds for this thread alone, but longtake decodes in a second one.
        with torch.inference_mode(False):
            asked = asked_job(model, prompt, format, filename_prefix, timeline, sampler, given)
            job, loaded = model.ready(asked)
            order = job.order
            result = generate(loaded, order.request, order.sampler, job.output, progress=Shown(job))
            model.rest()
            path, size = job.output.path, file_size(job)
            frames = torch.from_numpy(read_last(path, last_frames, size).astype(np.float32) / 255)
        place = os.path.relpath(path.parent, folder_paths.get_output_directory())
        saved = ui.SavedResult(path.name, "" if place == "." else place, io.FolderType.output)
        report = json.dumps(result.report, indent=2)
        shown = ui.PreviewVideo([saved])
        return io.NodeOutput(str(path), frames, report, InputImpl.VideoFromFile(str(path)), ui=shown)


class Shown:
    """Shows how far a video is, with its newest frame, and ends it where ComfyUI's user asks for that."""

    def __init__(self, job: Job) -> None:
        self._job, self._segments = job, 0
        self._bar = comfy.utils.ProgressBar(1)

    def __call__(self, frames: int, warnings: tuple[str, ...], doing: str) -> None:
        """Take what a `Progress` is told."""
        for warning in warnings:
            logging.warning("longtake: %s", warning)
        comfy.model_management.throw_exception_if_processing_interrupted()
        output = self._job.output
        # Of a segment that is not full yet nothing can be read.
        segments, picture = frames // output.segment, None
        if segments > self._segments:
            picture = Image.fromarray(read_last(output.path, 1, file_size(self._job))[0])
        self._segments = segments
        # Of an endless video nobody knows the length.
        total = self._job.frames or frames + self._job.spec.num_frames
        shown = None if picture is None else ("JPEG", picture, None)
        self._bar.update_absolute(frames, total, shown)


def file_size(job: Job) -> tuple[int, int]:
    """Return height and width of the frames in the file."""
    return job.spec.height * job.output.scale, job.spec.width * job.output.scale


def diffusers_folders() -> dict[str, str]:
    """Return the folders of pipelines that ComfyUI finds in models/diffusers, by their names."""
    roots = [Path(root) for root in folder_paths.get_folder_paths("diffusers")]
    found = [index.parent for root in roots if root.is_dir() for index in sorted(root.glob(f"*/{INDEX}"))]
    return {folder.name: str(folder) for folder in reversed(found)}


def with_files(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a node with pictures written to files, each batch to a folder that its content names."""
    named = set(PICTURES.values())
    return {key: written(value) if key in named and value is not None else value for key, value in given.items()}


def written(images: torch.Tensor) -> str:
    """Write images [batch, height, width, channels] of 0 to 1 to a folder of PNG files; return its path."""
    pixels = np.rint(images[..., :3].cpu().numpy().clip(0, 1) * 255).astype(np.uint8)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:12]
    folder = Path(folder_paths.get_output_directory()) / "longtake" / f"pictures_{digest}"
    if not folder.exists():
        begun = folder.with_name(f"{folder.name}.part")
        begun.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(pixels):
            Image.fromarray(frame).save(frame_file(begun, number))
        begun.rename(folder)
    return str(folder)


class LongtakeExtension(ComfyExtension):
    """All nodes; one for every sampler in longtake's table."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        return [LoadModelNode, PromptsNode, *map(sampler_node, SAMPLERS), PlanNode, LongVideoNode]
