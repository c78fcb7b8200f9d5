"""Vision Transformers, built step by step; each module is printed from its lesson.

All names of the lessons can be imported from here. They are loaded when first asked
for: `import course_vit` itself loads no torch.
"""

from importlib import import_module
from typing import Any

_MODULES = (
    "patch_embedding",
    "position_encoding",
    "self_attention",
    "multi_head_attention",
    "encoder_block",
    "vision_transformer",
    "training",
    "looking_inside",
    "deit",
    "t2t",
    "pretrained",
    "kit.models",
)


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        for module in _MODULES:
            home = import_module(f".{module}", __name__)
            if name in home.__all__:
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
