"""How fast is our ViT-S/16 compared with timm, vit-pytorch and nn.TransformerEncoder?

    python benchmarks/peers.py [--batch 1] [--rounds 30] [--threads 2] [--backward]

It times forward passes at 224 pixels in float32 (with --backward: the gradients too).
Each round times every model once, so that a busy moment of the machine affects them
all. It prints the median of the rounds, and how many times as fast as each peer our
model is, round by round.
"""

import argparse
import time
from statistics import median

import timm
import torch
from torch import nn
from vit_pytorch import ViT

import course_vit


class TorchViT(nn.Module):
    """The simplest ViT made of torch's own layers."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 384, kernel_size=16, stride=16)
        self.first = nn.Parameter(torch.zeros(1, 1, 384))
        self.position = nn.Parameter(torch.zeros(1, 197, 384))
        layer = nn.TransformerEncoderLayer(
            384, 6, 1536, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, 12, nn.LayerNorm(384), enable_nested_tensor=False
        )
        self.head = nn.Linear(384, 1000)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.encoder(x)[:, 0])


def models():
    vit_small = {"dim": 384, "depth": 12, "heads": 6, "mlp_dim": 1536}
    return {
        "course_vit": course_vit.create_model("vit_small_patch16_224"),
        "timm": timm.create_model("vit_small_patch16_224"),
        "vit-pytorch": ViT(
            image_size=224, patch_size=16, num_classes=1000, **vit_small
        ),
        "nn.TransformerEncoder": TorchViT(),
    }


def seconds(model, images, backward):
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        out = model(images)
        if backward:
            out.sum().backward()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--backward", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    peers = {name: model.train(args.backward) for name, model in models().items()}
    images = torch.randn(args.batch, 3, 224, 224)
    times = {name: [] for name in peers}
    for _ in range(args.rounds + 2):
        for name, model in peers.items():
            times[name].append(seconds(model, images, args.backward))
    times = {name: measured[2:] for name, measured in times.items()}  # warmed up
    ours = times["course_vit"]
    for name, measured in times.items():
        ratio = median(peer / our for peer, our in zip(measured, ours, strict=True))
        print(f"{name:22} {1000 * median(measured):7.1f} ms   ours x {ratio:.2f}")


if __name__ == "__main__":
    main()
