"""What the node pack uses of ComfyUI, in as many lines as tests need: written after the interface of ComfyUI 0.3.64
(`comfy_api.latest`, `folder_paths`, `comfy.model_management`, `comfy.utils`); more names and keywords it refuses.
"""

import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

VERSION = "0.3.64"

_ALL = ("id", "display_name", "optional", "tooltip", "lazy")
_WIDGET = (*_ALL, "default", "socketless")
KEYWORDS = {
    "Boolean": (*_WIDGET, "label_on", "label_off", "force_input"),
    "Int": (*_WIDGET, "min", "max", "step", "control_after_generate", "display_mode", "force_input"),
    "Float": (*_WIDGET, "min", "max", "step", "round", "display_mode", "force_input"),
    "String": (*_WIDGET, "multiline", "placeholder", "dynamic_prompts", "force_input"),
    "Combo": (*_WIDGET, "options", "control_after_generate", "upload", "image_folder", "remote"),
    "Image": _ALL,
    "Video": _ALL,
}
"""Type -> what its input takes."""
TYPES = {"Boolean": bool, "Int": int, "Float": float, "String": str, "Combo": str}


@dataclass
class Input:
    """An input of a node, as it was declared."""

    type: str
    id: str
    told: dict[str, Any]

    @property
    def optional(self) -> bool:
        return bool(self.told.get("optional"))

    def check(self, value: Any) -> None:
        """Refuse what ComfyUI refuses before it runs a graph, and a value of another type."""
        assert type(value) is TYPES[self.type], (self.id, value)
        if self.type == "Combo":
            assert value in self.told["options"], (self.id, value)
        assert self.told.get("min", value) <= value <= self.told.get("max", value), (self.id, value)


def _declared(name: str, keywords: tuple[str, ...]) -> SimpleNamespace:
    def make(id: str, **told: Any) -> Input:
        assert set(told) <= set(keywords), set(told) - set(keywords)
        return Input(name, id, told)

    def output(id: str | None = None, display_name: str | None = None, tooltip: str | None = None) -> str:
        return name

    return SimpleNamespace(Input=make, Output=output)


@dataclass
class Schema:
    """What a node looks like."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Input]
    outputs: list[str]
    is_output_node: bool = False


class ComfyNode:
    """Base of all nodes: two class methods, `define_schema` and `execute`."""


class NodeOutput:
    """What a node returns."""

    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class ComfyExtension:
    """Base of what a pack gives."""


class InterruptProcessingException(Exception):
    """The user has asked for the end."""


@dataclass
class Server:
    """A ComfyUI that runs graphs, one node after the other."""

    output: Path
    models: Path
    progress: list[dict[str, Any]] = field(default_factory=list)
    interrupt_at: float | None = None
    """Ask for the end once so many frames have been told of."""

    def modules(self) -> dict[str, ModuleType]:
        """Return the modules that the pack imports."""
        io = SimpleNamespace(
            **{name: _declared(name, keywords) for name, keywords in KEYWORDS.items()},
            Custom=lambda name: _declared(name, _ALL),
            Schema=Schema,
            ComfyNode=ComfyNode,
            NodeOutput=NodeOutput,
            FolderType=SimpleNamespace(output="output"),
            Input=Input,
        )
        ui = SimpleNamespace(
            SavedResult=lambda filename, subfolder, type: {"filename": filename, "subfolder": subfolder, "type": type},
            PreviewVideo=lambda values: {"images": values, "animated": (True,)},
            PreviewText=lambda text: {"text": (text,)},
        )
        latest = {
            "ComfyExtension": ComfyExtension,
            "InputImpl": SimpleNamespace(VideoFromFile=lambda path: ("video", path)),
            "io": io,
            "ui": ui,
        }
        management = {
            "throw_exception_if_processing_interrupted": self._interrupted,
            "unload_all_models": lambda: None,
            "soft_empty_cache": lambda: None,
        }
        paths = {
            "get_output_directory": lambda: str(self.output),
            "get_folder_paths": lambda kind: [str(self.models / kind)],
            "get_save_image_path": self._save_path,
        }
        bar = SimpleNamespace(update_absolute=self._progress)
        inner = {
            "model_management": _module("comfy.model_management", management),
            "utils": _module("comfy.utils", {"ProgressBar": lambda total, node_id=None: bar}),
        }
        return {
            "comfy_api": _module("comfy_api", {}),
            "comfy_api.latest": _module("comfy_api.latest", latest),
            "comfy": _module("comfy", inner),
            **{f"comfy.{name}": module for name, module in inner.items()},
            "folder_paths": _module("folder_paths", paths),
        }

    def run(self, nodes: dict[str, type], graph: dict[str, Any]) -> dict[str, NodeOutput]:
        """Execute a graph as POST /prompt takes it; its nodes must stand in the order of their links."""
        done: dict[str, NodeOutput] = {}
        for key, node in graph.items():
            kind = nodes[node["class_type"]]
            inputs = {one.id: one for one in kind.define_schema().inputs}
            assert set(node["inputs"]) <= set(inputs), set(node["inputs"]) - set(inputs)
            assert {one.id for one in inputs.values() if not one.optional} <= set(node["inputs"])
            values = {}
            for name, value in node["inputs"].items():
                if isinstance(value, list):
                    values[name] = done[value[0]].args[value[1]]
                else:
                    inputs[name].check(value)
                    values[name] = value
            done[key] = kind.execute(**values)
        return done

    def _progress(self, value: float, total: float | None = None, preview: Any = None) -> None:
        self.progress.append({"value": value, "max": total, "preview": preview})

    def _interrupted(self) -> None:
        if self.interrupt_at is not None and self.progress and self.progress[-1]["value"] >= self.interrupt_at:
            self.interrupt_at = None
            raise InterruptProcessingException

    def _save_path(self, prefix: str, folder: str) -> tuple[str, str, int, str, str]:
        inside = Path(folder, prefix).resolve()
        assert inside.is_relative_to(Path(folder).resolve()), "outside of the output folder"
        inside.parent.mkdir(parents=True, exist_ok=True)
        return str(inside.parent), inside.name, 1, str(Path(prefix).parent), prefix


def _module(name: str, content: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


def load_pack(folder: Path, name: str) -> ModuleType:
    """Import a pack as ComfyUI does: a folder of its own, under a name of no package."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert inspect.iscoroutinefunction(module.comfy_entrypoint)
    return module
