"""What pyright is told of transformers: everything is there, of any type; to read its own files takes 10 s."""

from typing import Any

def __getattr__(name: str) -> Any: ...
