"""How long does a learner wait, and how much memory does a room of twenty need?

    python benchmarks/hub.py [--learners 20] [--out benchmarks/results/hub.md]

A real JupyterHub with the configuration of hub/ runs on this computer. All learners log
in at once. Each waits for a server, starts a kernel, passes three checks of lesson 7
and trains its model. Seconds are counted from the login. Memory is the proportional
set size (PSS) of all processes of a learner, sampled every five seconds; pages that
learners share are split between them, so that the sum is the memory of the room. Run it
as root with the environment of the hub, on a computer that does nothing else.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from room import Learner, hub, needed, solutions, training, what_is_missing

CHECKS = {"7.2": "answer", "7.4": "answer", "7.1": "train_step"}
COLUMNS = ["server, s", "first check, s", "third check, s", "model, s", "memory, MB"]


def visit(learner, row, failures):
    """One learner's hour, from the login to the trained model."""
    began = time.monotonic()

    def note(column):
        row[column] = time.monotonic() - began

    try:
        assert learner.log_in("a long password").status_code == 302
        learner.start_server(seconds=600)
        note("server, s")
        learner.start_kernel()
        cells, answers = learner.lesson(), solutions()
        train = training(cells)
        wanted = [cells[train].source, *(answers[n] for n in CHECKS), "check"]
        for source in needed(cells[:train], wanted):
            learner.well(source)
        for number, name in CHECKS.items():
            learner.well(answers[number])
            verdict = learner.well(f'check("{number}", {name})')
            assert verdict.startswith(f"**ok {number}**"), verdict
            if "first check, s" not in row:
                note("first check, s")
        note("third check, s")
        learner.well(cells[train].source)
        note("model, s")
        right = learner.well("print(evaluate(model, data.test)['accuracy'])")
        assert float(right) > 0.9, right
    except Exception as error:
        failures.append(f"{learner.name}: {type(error).__name__}: {error}"[-600:])


def measure_memory(names, peaks, stop):
    """Keep the largest PSS of each learner and of all, in MB, until `stop` is set."""
    while not stop.wait(5):
        now = defaultdict(float)
        for process in psutil.process_iter(["username"]):
            name = process.info["username"]
            if name in names:
                try:
                    now[name] += process.memory_full_info().pss / 1e6
                except psutil.Error:
                    continue  # it has ended
        for name, size in now.items():
            peaks[name] = max(peaks[name], size)
        peaks["room"] = max(peaks["room"], sum(now.values()))


def table(rows, room):
    """The rows as Markdown, with their median and their maximum."""
    lines = [
        "| learner | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    ends = {"median": median, "maximum": max}
    for name, row in rows.items():
        cells = [f"{row[c]:.0f}" if c in row else "-" for c in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, end in ends.items():
        known = [[row[c] for row in rows.values() if c in row] for c in COLUMNS]
        cells = [f"{end(column):.0f}" if column else "-" for column in known]
        lines.append(f"| **{name}** | " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(f"All learners together: at most {room / 1000:.1f} GB at one time.")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--learners", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30, help="give up after these")
    parser.add_argument("--out", type=Path, help="a file for the table")
    wanted = parser.parse_args()
    if reason := what_is_missing():
        sys.exit(reason)
    names = [f"hubroom{i:02}" for i in range(1, wanted.learners + 1)]
    rows, failures = {name: {} for name in names}, []
    peaks, stop = defaultdict(float), threading.Event()
    end = time.monotonic() + 60 * wanted.minutes
    with tempfile.TemporaryDirectory() as folder, hub(Path(folder), names) as base:
        watch = threading.Thread(target=measure_memory, args=(set(names), peaks, stop))
        visitors = [
            threading.Thread(
                target=visit, args=(Learner(base, n), rows[n], failures), daemon=True
            )
            for n in names
        ]
        for thread in [watch, *visitors]:
            thread.start()
        for thread in visitors:
            thread.join(max(0, end - time.monotonic()))
        late = sum(thread.is_alive() for thread in visitors)
        stop.set()
        watch.join()
    for name in names:
        rows[name]["memory, MB"] = peaks[name]
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 1e9
    text = f"{cores} cores, {memory:.0f} GB; {wanted.learners} learners at once.\n\n"
    text += table(rows, peaks["room"]) + "\n"
    print(text)
    if wanted.out and not (failures or late):
        wanted.out.parent.mkdir(parents=True, exist_ok=True)
        wanted.out.write_text(text, encoding="utf-8")
    if failures or late:
        sys.exit("\n".join([*failures, f"{late} learners had not finished in time"]))


if __name__ == "__main__":
    main()
