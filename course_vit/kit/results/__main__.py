"""Make the long runs: `python -m course_vit.kit.results`, `make results`.

With names after it, the command makes only those runs:
`python -m course_vit.kit.results clinic patches`.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context

import torch

from ...training import random_affine
from . import FOLDER, lesson_07, lesson_10

RUNS = {run.__name__: run for run in (*lesson_07.RUNS, *lesson_10.RUNS)}


def make(name: str, pool: ProcessPoolExecutor) -> None:
    """Run every training of a run, print each result, and write the table."""
    jobs = list(RUNS[name]())
    futures = {
        pool.submit(train, **settings): i
        for i, (*_, train, settings) in enumerate(jobs)
    }
    results: dict[int, dict] = {}
    for future in as_completed(futures):
        i = futures[future]
        result = results[i] = future.result()
        said = f"{jobs[i][0]}: {result['accuracy']} %, {result['seconds']} s"
        print(f"{name} {len(results)}/{len(jobs)}, {said}", flush=True)
    table: dict = {}
    for i, (row, *_) in enumerate(jobs):
        for key, value in results[i].items():
            table.setdefault(row, {}).setdefault(key, []).append(value)
    text = json.dumps(table, indent=1)
    (FOLDER / f"{name}.json").write_text(f"{text}\n", "utf-8")


def make_digit_model(pool: ProcessPoolExecutor) -> None:
    """Train the model that `stored_model` returns, and save its weights."""
    digits = partial(lesson_07.vit, epochs=60, augment=random_affine, weights=True)
    result = pool.submit(digits, sizes={"pool": "token"}).result()
    torch.save(result["weights"], FOLDER / "digit_model.pt")
    print(f"digit_model: {result['accuracy']} %, {result['seconds']} s", flush=True)


def main(names: list[str]) -> None:
    """Make the runs with these names, or all of them."""
    known = [*RUNS, "digit_model"]
    if unknown := set(names) - set(known):
        sys.exit(f"runs are {', '.join(known)}; got {', '.join(sorted(unknown))}")
    FOLDER.mkdir(exist_ok=True)
    spawn, one_thread = get_context("spawn"), torch.set_num_threads
    with ProcessPoolExecutor(None, spawn, one_thread, (1,)) as pool:
        for name in names or known:
            if name in RUNS:
                make(name, pool)
            else:
                make_digit_model(pool)


if __name__ == "__main__":
    main(sys.argv[1:])
