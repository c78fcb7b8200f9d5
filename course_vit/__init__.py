"""Vision Transformers, built step by step; each module is exported from its lesson.

All names of the lessons can be imported from here. Each is loaded when it is first
used: `import course_vit` itself loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # editors and type checkers read the names here
    from .deit import *
    from .encoder_block import *
    from .kit.model_tools import *
    from .kit.models import *
    from .looking_inside import *
    from .multi_head_attention import *
    from .patch_embedding import *
    from .position_encoding import *
    from .pretrained import *
    from .self_attention import *
    from .t2t import *
    from .training import *
    from .vision_transformer import *
else:  # Python looks for a name in these modules, in this order
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
        "kit.model_tools",
    )

    def _modules():
        return (import_module(f".{module}", __name__) for module in _MODULES)

    def __getattr__(name):
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if name == "__all__":
            return [name for module in _modules() for name in module.__all__]
        if not name.startswith("_"):
            for module in _modules():
                if name in module.__all__:
                    return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        names = __getattr__("__all__")  # which loads every module into globals()
        return sorted({*names, *globals()})
