"""The same weights under every name, drawn so that no mistake can hide.

With the usual first weights a forgotten bias is invisible: here every parameter is
drawn, biases and norms too. Distances are in units of the standard deviation of the
answer.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from course_vit.kit.demo_weights import TORCHVISION

TOLERANCE = {torch.float64: 1e-9, torch.float32: 8e-6}

NAMES = {
    "timm": {},
    "torchvision": TORCHVISION,
    "transformers": {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "blocks.": "vit.layers.",
        "norm1": "layernorm_before",
        "attn.qkv": "attention.qkv_proj",
        "attn.proj": "attention.o_proj",
        "norm2": "layernorm_after",
        "norm.": "vit.layernorm.",
        "head.": "classifier.",
    },
    "vit_pytorch": {
        "blocks.": "layers.",
        "norm1": "0.norm",
        "attn.qkv": "0.to_qkv",
        "attn.proj": "0.to_out.0",
        "norm2": "1.net.0",
        "mlp.fc1": "1.net.1",
        "mlp.fc2": "1.net.4",
    },
}
NAMES["transformers DeiT"] = {
    our: their.replace("vit.", "deit.") for our, their in NAMES["transformers"].items()
} | {
    "dist_token": "deit.embeddings.distillation_token",
    "head.": "cls_classifier.",
    "head_dist.": "distillation_classifier.",
}


def renamed(state, peer):
    """The same weights under the names of a peer."""
    theirs = {}
    for key, tensor in state.items():
        for our_part, their_part in NAMES[peer].items():
            key = key.replace(our_part, their_part)
        if "qkv_proj" in key:  # transformers keeps three layers
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                theirs[key.replace("qkv_proj", f"{letter}_proj")] = part
        else:
            theirs[key] = tensor
    return theirs


def drawn(build, dtype=torch.float64):
    """Weights for every key: activations stay of order one, no bias is small."""
    with torch.device("meta"):
        state = build().state_dict()
    torch.manual_seed(0)
    for key, tensor in state.items():
        noise = torch.randn(tensor.shape)
        if "norm" in key and key.endswith("weight"):
            noise = 1 + 0.3 * noise
        elif key.endswith("weight"):
            noise *= tensor[0].numel() ** -0.5
        else:
            noise *= 0.5
        state[key] = noise.to(dtype)
    return state


def with_weights(build, state):
    """A model in eval whose every parameter is taken from `state`."""
    with torch.device("meta"):
        model = build()
    model.load_state_dict(state, strict=True, assign=True)
    assert not [name for name, buffer in model.named_buffers() if buffer.is_meta]
    return model.eval()


@torch.no_grad()
def answer(model, images):
    out = model(images)
    return getattr(out, "logits", out)


def distance(ours, theirs):
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.std()).item()


def released_t2t(package, kind, dtype=torch.float64):
    """A small model of ours, still fresh, and the golden numbers for it.

    The released code (commit 0f63dc9 of yitu-opensource/T2T-ViT) computed them in
    float64 with every weight drawn: 48 pixels, tokens 8 and 24 wide. `both.` holds what
    the two kinds share.
    """
    file = Path(__file__).parent / "golden" / "t2t_tiny.safetensors"
    golden = {
        key.split(".", 1)[1]: tensor.to(torch.get_default_device(), dtype)
        for key, tensor in load_file(file).items()
        if key.startswith(("both.", f"{kind}."))
    }
    golden["weights"] = {
        key.removeprefix("weights."): golden.pop(key)
        for key in list(golden)
        if key.startswith("weights.")
    }
    sizes = {"token_dim": 8, "embed_dim": 24, "depth": 2, "num_heads": 4}
    model = package.T2TViT(48, kind, num_classes=7, mlp_ratio=2.0, **sizes)
    return model.to(dtype).eval(), golden


# Mistakes that every model can make


def exchange_eps(model):
    """LayerNorms with the other usual eps: 1e-5 for 1e-6, 1e-6 for 1e-5."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6 if module.eps == 1e-5 else 1e-5


def order_k_q_v(model):
    for block in model.blocks:
        for parameter in block.attn.qkv.parameters():
            q, k, v = parameter.data.chunk(3)
            parameter.data = torch.cat([k, q, v])
