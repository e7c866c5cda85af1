"""Checks of array shapes in signatures, for the modules that `--jaxtyping-packages` names in pyproject.toml.

jaxtyping's own decorator binds the arguments of a call, checks them twice, and builds its checkers anew for every inner
function: loops on the toy model took six times as long. Here beartype checks arguments and result once, in one context
of jaxtyping, so that a name of a dimension means the same in all of them.
"""

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from types import CodeType, SimpleNamespace
from typing import Any, get_type_hints
from unittest.mock import patch

import jaxtyping
from beartype import beartype
from jaxtyping import _import_hook

_context = jaxtyping.jaxtyped
_checkers: dict[int, tuple[CodeType, Callable[..., Any]]] = {}


class _Called(threading.local):
    def __init__(self) -> None:
        self.targets: list[Callable[..., Any]] = []


_called = _Called()


def checked(target: Any = None, *, typechecker: object = None) -> Any:
    """Return a function, a method of any kind or a dataclass whose calls are checked; other classes as they are."""
    if target is None:
        return checked
    if isinstance(target, classmethod | staticmethod):
        return type(target)(checked(target.__func__))
    if isinstance(target, property):
        return property(*(part and checked(part) for part in (target.fget, target.fset, target.fdel)))
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and "__init__" in vars(target):
            target.__init__ = checked(target.__init__)
        return target
    check = _checker(target)

    @functools.wraps(target)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        depth = len(_called.targets)
        _called.targets.append(target)
        try:
            with _context("context"):
                return check(*args, **kwargs)
        finally:
            del _called.targets[depth:]

    return wrapped


def _checker(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return what checks a call and makes it: one for all inner functions of the same code, which differ in values."""
    code = target.__code__
    if id(code) not in _checkers:

        @functools.wraps(target)
        def call(*args: Any, **kwargs: Any) -> Any:
            return _called.targets.pop()(*args, **kwargs)

        call.__annotations__ = {name: _hint(hint, target) for name, hint in target.__annotations__.items()}
        _checkers[id(code)] = code, beartype(call)
    return _checkers[id(code)][1]


def _hint(annotation: Any, target: Callable[..., Any]) -> Any:
    """Return an annotation as a type; Any for one that names what is imported for type checkers only."""
    named = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(named, target.__globals__, include_extras=True)["it"]
    except Exception:
        return Any


def _code(loader: Any, name: str) -> CodeType | None:
    """Return the code of a checked module, whose bytecode lies beside the ordinary one.

    jaxtyping looks for bytecode of that kind while a module runs, too: all of torch and diffusers that it imports would
    be compiled anew, by every process where no bytecode is written.
    """
    found = functools.partial(_import_hook._optimized_cache_from_source, loader._typechecker.get_hash())
    with patch("importlib._bootstrap_external.cache_from_source", found):
        return SourceFileLoader.get_code(loader, name)


jaxtyping.jaxtyped = checked
_import_hook._JaxtypingLoader.get_code = _code
_import_hook._JaxtypingLoader.exec_module = SourceFileLoader.exec_module
