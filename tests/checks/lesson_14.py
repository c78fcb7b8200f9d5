"""Lesson 14: right answers in other styles, mistakes in other forms."""

import statistics

import numpy as np
import torch

from course_vit.kit.checks.lesson_14 import by_hand


def by_statistics(ours, theirs):
    leads = [a - b for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    error = statistics.stdev(leads) / len(leads) ** 0.5
    return statistics.mean(leads), 2.776 * error


def by_numpy(ours, theirs):
    leads = np.asarray(ours) - np.asarray(theirs)
    return leads.mean(), 2.776 * leads.std(ddof=1) / np.sqrt(len(leads))


def by_tensors(ours, theirs):
    leads = ours - theirs
    spread = (leads - leads.mean()).square().sum().div(4).sqrt()
    return torch.stack([ours.mean() - theirs.mean(), 2.776 * spread / 5**0.5])


RIGHT = {
    "14.1": [3 * 64**2 // 32**2, np.int64(12), 12.0],
    "14.2": [by_statistics, by_numpy, by_tensors, by_hand()],
    "14.3": [" c"],
}
WRONG = {
    "14.1": [(13, "expected|differs|not right|got 13")],
    "14.2": [
        (lambda ours, theirs: by_numpy(theirs, ours), "turned-round"),
        (lambda ours, theirs: (by_numpy(ours, theirs)[0], 1.0), "half of the interval"),
        (lambda ours, theirs: (ours.mean().item(), 1.0), "the mean lead is"),
    ],
    "14.3": [("E", "answer A, B, C or D")],
}
