"""How fast is each model of the course, compared with the same model elsewhere?

    python benchmarks/peers.py [--device cuda] [--quick] [--busy]

Every measurement times all models in turn, round after round, so that a busy moment of
the machine affects them all. A ratio is a peer's time divided by ours, round by round:
its median is printed, and in brackets its quartiles. Above 1 we are faster. The tables
and a picture are written to `benchmarks/results/`.
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import course_vit
from benchmarks import models
from benchmarks.tables import HOW_TO_READ, level, machine, picture, ratio, table
from course_vit.kit import fast
from course_vit.kit.storage import write

RESULTS = Path(__file__).parent / "results"
MODES = {  # on CUDA: the precision of float32 products, autocast, compile
    "float32": ("highest", False, False),
    "tf32": ("high", False, False),
    "bfloat16": ("high", True, False),
    "bfloat16, compiled": ("high", True, True),
}


class Bench:
    """The settings of a benchmark, and its clock."""

    def __init__(self, device="cpu", rounds=9, batch=8, busy=False, quick=False):
        self.device, self.quick, self.busy = device, quick, busy
        self.rounds, self.batch = (1, 1) if quick else (rounds, batch)
        self.names = ["ViT-Ti/16"] if quick else list(models.NAMES)
        self.clock = time.process_time if busy else time.perf_counter
        if busy:
            torch.set_num_threads(1)

    def in_turn(self, runs, rounds=None):
        """The seconds of each function, round by round; if busy, the processor's."""
        return fast.time_in_turn(runs, rounds or self.rounds, clock=self.clock)

    def peers(self, name):
        """What builds a model and its peers; if it must be quick, the first peer."""
        builders = models.peers(name)
        return dict(list(builders.items())[:2]) if self.quick else builders

    def images(self, batch=None):
        return torch.randn(batch or self.batch, 3, 224, 224, device=self.device)


# Forward passes and training steps


def logits_of(output):
    """The logits, whether a model returns them alone, for two heads, or by name."""
    if isinstance(output, tuple):
        output = sum(output) / len(output)
    return getattr(output, "logits", output)


def forward(model, images):
    with torch.no_grad():
        return logits_of(model(images))


def step(model, optimizer, images):
    """A training step: the loss, its gradient, and AdamW."""
    optimizer.zero_grad()
    labels = torch.arange(len(images), device=images.device)
    F.cross_entropy(logits_of(model(images)).float(), labels).backward()
    optimizer.step()


def task_runs(bench, name, task, mode="float32", only=None):
    """The function to time for each peer of a model."""
    _, half, compiled = MODES[mode]
    images, runs = bench.images(), {}
    for peer, build in bench.peers(name).items():
        if only not in (peer, None):
            continue
        model = build().to(bench.device).train(task == "step")
        run = torch.compile(model) if compiled else model
        trained = [p for p in model.parameters() if p.requires_grad]
        if task == "step":
            run = partial(step, run, torch.optim.AdamW(trained), images)
        else:
            run = partial(forward, run, images)
        runs[peer] = torch.autocast(bench.device, torch.bfloat16)(run) if half else run
    return runs


def flops(run):
    """The operations of products; written-out attention, because it can be counted."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def products(bench, half=False, side=2048):
    """A product of square matrices, the most that the machine can do, and its work."""
    kind = torch.bfloat16 if half else torch.float32
    a = torch.randn(side, side, device=bench.device, dtype=kind)
    return partial(torch.mm, a, a), 2 * side**3


def speed(bench):
    """Each model and task against its peers."""
    for mode in MODES if bench.device == "cuda" else ["float32"]:
        torch.set_float32_matmul_precision(MODES[mode][0])
        for name in bench.names:
            for task in ("forward", "step"):
                runs = task_runs(bench, name, task, mode)
                (plain,) = task_runs(bench, name, task, only="course_vit").values()
                product, work = products(bench, half=MODES[mode][1])
                times = bench.in_turn(runs | {"product": product})
                product, ours = times.pop("product"), times.pop("course_vit")
                share = median(product) / median(ours) * flops(plain) / work
                fastest = min(times, key=lambda peer: median(times[peer]))
                ratios = {peer: ratio(theirs, ours) for peer, theirs in times.items()}
                yield {
                    "model": name,
                    "task": task,
                    "mode": mode,
                    "ours, ms": 1000 * median(ours),
                    "share of the peak": share,
                    "fastest peer": fastest,
                    "level": "yes" if level(ratios[fastest]) else "NO",
                } | ratios


def memory(bench):
    """The peak memory of a training step, in MB, without that of the packages."""
    for name in bench.names:
        row = {"model": name}
        for peer in bench.peers(name):
            row[peer] = round(peak_memory(bench, name, peer))
        yield row


def peak_memory(bench, name, peer):
    if bench.device == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        task_runs(bench, name, "step", only=peer)[peer]()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    command = [sys.executable, "-m", "benchmarks.peers", "--memory-of", name, peer]
    command += ["--batch", str(bench.batch)]
    return float(subprocess.run(command, stdout=-1, text=True, check=True).stdout)


def print_memory(bench, name, peer):
    """The same in this process, which must be fresh, because its peak remains."""
    from resource import RUSAGE_SELF, getrusage

    import_module("torch._dynamo")  # which AdamW loads
    with torch.device("meta"):
        models.peers(name)[peer]()  # loads the packages
    before = getrusage(RUSAGE_SELF).ru_maxrss
    task_runs(bench, name, "step", only=peer)[peer]()
    print((getrusage(RUSAGE_SELF).ru_maxrss - before) / 1e3)


# Attention, a whole training, an import


def attention(bench):
    """Milliseconds of attention over n tokens, for each way to compute it."""
    w = course_vit.random_features(64).to(bench.device)

    def performer(q, k, v):
        q, k = (course_vit.positive_features(x, w) for x in (q, k))
        return course_vit.linear_attention(q, k, v)

    ways = {
        "softmax, written out": course_vit.attention,
        "softmax, fused": F.scaled_dot_product_attention,
        "performer": performer,
    }
    for n in (49, 196) if bench.quick else (49, 196, 784, 3136):
        qkv = torch.randn(3, 1, n, 64, device=bench.device) / 8
        times = bench.in_turn({way: partial(run, *qkv) for way, run in ways.items()}, 9)
        row = {way: 1000 * median(measured) for way, measured in times.items()}
        yield {"tokens": n} | row


def digits(bench, target=0.97):
    """Seconds until a small model reads 97 % of the test digits, evaluations left out.

    Data, recipe and seeds are the same. timm also gets our starting weights;
    vit-pytorch has its own, because it also normalises the patches.
    """
    from timm.models import VisionTransformer
    from vit_pytorch import ViT

    from course_vit.kit.results import SMALL

    for seed in range(1 if bench.quick else 3):
        torch.manual_seed(seed)
        ours = course_vit.VisionTransformer(8, 2, 1, 10, **SMALL)
        course_vit.init_narrow(ours)
        theirs = {"class_token": False, "global_pool": "avg", "fc_norm": False}
        theirs |= {key: size for key, size in SMALL.items() if key != "pool"}
        timm = VisionTransformer(8, 2, 1, 10, **theirs)
        timm.load_state_dict(ours.state_dict())
        size = {"dim": 64, "depth": 3, "heads": 4, "dim_head": 16, "mlp_dim": 128}
        size |= {"image_size": 8, "patch_size": 2, "channels": 1, "num_classes": 10}
        other = ViT(pool="mean", **size)
        peers = {"course_vit": ours, "timm": timm, "vit-pytorch": other}
        yield {"seed": seed} | {
            name: seconds_to(target, bench, model, seed)
            for name, model in peers.items()
        }


def seconds_to(target, bench, model, seed):
    """The seconds until the test accuracy reaches the target, or how near it came."""
    from course_vit.kit.data import load_data

    data, spent, best = load_data(seed=seed), 0.0, 0.0
    model.to(bench.device)
    options = {"lr": 2e-3, "seed": seed, "augment": course_vit.random_affine}
    run = course_vit.Run(model, data.train, epochs=30, **options)
    for _ in range(1 if bench.quick else run.epochs):
        start = bench.clock()
        course_vit.train_epoch(run)
        spent += bench.clock() - start
        best = max(best, course_vit.evaluate(model, data.test)["accuracy"])
        if best >= target:
            return spent
    return f"{100 * best:.1f} % after {spent:.1f} s"


IMPORTS = {
    "torch alone": "import torch",
    "course_vit": "import course_vit",
    "course_vit's ViT": "from course_vit import VisionTransformer",
    "timm's ViT": "from timm.models import VisionTransformer",
    "vit-pytorch's ViT": "from vit_pytorch import ViT",
    "transformers' ViT": "from transformers import ViTForImageClassification",
}


def imports(bench):
    """Seconds of each import in a fresh process, by the clock on the wall."""
    timer = "import time; start = time.time(); {}; print(time.time() - start)"
    for _ in range(1 if bench.quick else 3):
        row = {}
        for name, code in list(IMPORTS.items())[: 2 if bench.quick else None]:
            command = [sys.executable, "-c", timer.format(code)]
            done = subprocess.run(command, stdout=-1, text=True, check=True)
            row[name] = float(done.stdout)
        yield row


# The fastest way, and the report


def one_call(bench):
    """Our `fastest` against every peer as it is, and timm's own faster ways."""
    ways = ["packed"] if bench.quick else fast.WAYS
    for name in bench.names[:2]:  # the two plain ViTs
        for batch in (1,) if bench.quick else (1, 8):
            images = bench.images(batch)
            runs = {
                peer: build().to(bench.device).eval()
                for peer, build in bench.peers(name).items()
            }
            timm, quick = runs["timm"], fast.fastest(runs["course_vit"], images, ways)
            if not bench.quick:
                runs["timm, compiled"] = torch.compile(timm, dynamic=False)
            if not bench.quick and bench.device == "cpu":
                runs["timm, ONNX Runtime"] = fast.onnx(timm, images)
            runs = {way: partial(forward, run, images) for way, run in runs.items()}
            times = bench.in_turn({"one call": partial(quick, images)} | runs)
            ours = times.pop("one call")
            row = {"model": name, "batch": batch, "chosen": quick.way}
            row["ms"] = 1000 * median(ours)
            yield row | {way: ratio(theirs, ours) for way, theirs in times.items()}


def report(bench, folder):
    """Measure everything; write the tables and the picture."""
    start, stem = time.perf_counter(), f"peers-{bench.device}"
    tables, rows = {}, {}
    for title, measure in {
        "Peak memory of a training step, MB": memory,  # first: this process is small
        "Forward passes and training steps: a peer's time / ours": speed,
        "One call, `course_vit.kit.fast.fastest`: a peer's time / its": one_call,
        "Attention, ms": attention,
        "A small model until it reads 97 % of the digits, s": digits,
        "Import, s": imports,
    }.items():
        rows[measure] = list(measure(bench))
        tables[title] = table(rows[measure])
        print(f"\n## {title}\n\n{tables[title]}", flush=True)
    fig, svg = picture(rows[speed], rows[attention]), BytesIO()
    fig.savefig(svg, format="svg", metadata={"Date": None})
    write(folder / f"{stem}.svg", svg.getvalue())
    text = f"{machine(bench)}\n\n{HOW_TO_READ}\n![{fig.get_label()}]({stem}.svg)\n"
    text += "".join(f"\n## {title}\n\n{of_it}\n" for title, of_it in tables.items())
    write(folder / f"{stem}.md", text.encode())
    minutes = (time.perf_counter() - start) / 60
    print(f"\nThis took {minutes:.1f} minutes; see {folder / stem}.md and .svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--busy", action="store_true", help="one thread, its own time")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    bench = Bench(args.device, args.rounds, args.batch, args.busy, args.quick)
    if args.memory_of:
        print_memory(bench, *args.memory_of)
    else:
        report(bench, args.results)


if __name__ == "__main__":
    main()
