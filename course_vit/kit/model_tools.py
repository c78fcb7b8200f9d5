"""What engineers need from a model: other image sizes, inner layers, less memory.

The functions work on the backbone of lesson 6, and so on ViT, DeiT and T2T-ViT; only
`allow_any_size` does not work on T2T-ViT.
"""

from collections.abc import Sequence
from functools import partial

import torch
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from ..patch_embedding import PatchEmbedding, check_images
from ..position_encoding import resize_position_embedding
from ..vision_transformer import Backbone

__all__ = ["allow_any_size", "intermediate_tokens", "set_grad_checkpointing"]


def allow_any_size(model: Backbone, policy: str = "timm") -> Backbone:
    """Let a model read images of any size whose sides are multiples of its patches.

    Its positions are stretched for each batch, as with timm's `dynamic_img_size`. The
    parameters and their names do not change. Returns the model itself.

    Args:
        model: A ViT or a DeiT.
        policy: How positions are stretched, the `policy` of
            `resize_position_embedding`.

    Raises:
        TypeError: If the model is neither a ViT nor a DeiT.
        ValueError: If there is no such policy.
    """
    if not isinstance(getattr(model, "patch_embed", None), PatchEmbedding):
        raise TypeError(
            "the model must be a ViT or DeiT of the course, got "
            f"{type(model).__name__}: build it with the img_size of your images"
        )
    resize_position_embedding(torch.zeros(1, 1, 1), (1, 1), 0, policy)  # does it exist?
    model.embed = partial(_embed_any_size, model, policy)  # type: ignore
    return model


def _embed_any_size(model: Backbone, policy: str, images: Tensor) -> Tensor:
    """Replace `Backbone.embed` for images of any size, `b c h w -> b n d`."""
    stem = getattr(model, model.stem_name)
    check_images(images, stem.in_chans, ("h", "w"))
    (height, width), (ph, pw) = images.shape[2:], stem.patch_size
    if height % ph or width % pw:
        raise ValueError(
            f"image sides must be multiples of {ph} and {pw}, got {height} and {width}"
        )
    patches = rearrange(stem.proj(images), "b d gh gw -> b (gh gw) d")
    prefix = [token.expand(len(images), -1, -1) for token in model.prefix_tokens()]
    x = torch.cat([*prefix, patches], dim=1)
    if model.pos_embed is not None:
        x = x + resize_position_embedding(
            model.pos_embed,
            grid_size=(height // ph, width // pw),
            num_prefix_tokens=model.num_prefix_tokens,
            policy=policy,
            old_grid_size=model.grid_size,
        )
    return model.pos_drop(x)


def intermediate_tokens(
    model: Backbone,
    images: Tensor,
    blocks: Sequence[int] | None = None,
    norm: bool = False,
) -> list[Tensor]:
    """Return the tokens after some of the blocks, `b c h w -> b n d` each.

    The prefix tokens come first; `[:, model.num_prefix_tokens:]` are the patches.
    Blocks after the last one in `blocks` are not computed.

    Args:
        model: A model in any mode; gradients are kept.
        images: The images, `b c h w`.
        blocks: The numbers of the blocks, from 0, or from -1 backwards; None means all.
        norm: Whether the model's last norm is applied to the tokens after each block.

    Raises:
        ValueError: If a block does not exist, or if `blocks` is empty.
    """
    depth = len(model.blocks)
    try:
        wanted = [range(depth)[i] for i in (range(depth) if blocks is None else blocks)]
        last = max(wanted)
    except (IndexError, TypeError, ValueError):
        raise ValueError(
            f"blocks must be a list of numbers from {-depth} to {depth - 1}, "
            f"got {blocks!r}"
        ) from None
    x, found = model.embed(images), []
    for block in model.blocks[: last + 1]:
        x = block(x)
        found.append(model.norm(x) if norm else x)
    return [found[number] for number in wanted]


def set_grad_checkpointing(model: Backbone, enable: bool = True) -> None:
    """Store only the input of each block, and compute the rest again for gradients.

    The gradients are the same; a step needs less memory and about a third more time.

    Args:
        model: A model that will be trained.
        enable: False stores everything again.
    """
    for block in model.blocks:
        block.__dict__.pop("forward", None)
        if enable:
            block.forward = partial(_checkpointed, block)


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(type(block).forward, block, x, use_reentrant=False)


def without_einops(model: nn.Module) -> fx.GraphModule:
    """Return a model's graph in plain torch, because TorchScript cannot read einops.

    The mode of the model, train or eval, becomes a part of the graph. The graph no
    longer checks shapes.

    Args:
        model: A model that `torch.fx` can trace.
    """
    module = fx.symbolic_trace(model)
    for node in list(module.graph.nodes):
        name = getattr(node.target, "__name__", "")
        with module.graph.inserting_before(node):
            if name == "rearrange":
                x, pattern = node.args
                module.add_submodule(node.name, Rearrange(pattern, **node.kwargs))
                step = module.graph.call_module(node.name, (x,))
            elif name == "repeat":  # the prefix tokens, "1 1 d -> b 1 d"
                sizes = (node.kwargs["b"], -1, -1)
                step = module.graph.call_method("expand", (node.args[0], *sizes))
            elif name in ("check_images", "check_shape"):
                step = None
            else:
                continue
        if step:
            node.replace_all_uses_with(step)
        module.graph.erase_node(node)
    module.recompile()
    return module
