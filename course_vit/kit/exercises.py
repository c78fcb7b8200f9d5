"""What the lessons say of their exercises: title, kind, minutes, hints, the reason.

The cells of an exercise are marked in their metadata, `course_vit`: its number
(`exercise`), `kind`, `role` (question, solution, check, reason) and, in a solution,
which names the learner's form leaves `blank`. All else stands in the text.
"""

import json
import re
from pathlib import Path
from typing import Any

DIFFICULTIES = ("easy", "medium", "hard")
HEADING = re.compile(
    r"### Exercise (?P<number>\d+\.\d+) "
    rf"\((?P<minutes>\d+) min, (?P<difficulty>{'|'.join(DIFFICULTIES)})\) "
    r"(?P<title>.+)\n"
)
FOLD = re.compile(r"<details><summary>(.*?)</summary>\s*(.*?)\s*</details>", re.DOTALL)


def mark(cell: dict[str, Any]) -> dict[str, Any]:
    """The mark of a cell, empty if it belongs to no exercise."""
    found = cell["metadata"].get("course_vit", {})
    return found if "exercise" in found else {}


def exercises(notebook: Path) -> dict[str, dict[str, Any]]:
    """What a notebook says of each of its exercises, by number.

    Raises ValueError, with the cell's first line, if a question is not written as such.
    """
    said: dict[str, dict[str, Any]] = {}
    section = ""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        source, found = "".join(cell["source"]), mark(cell)
        if cell["cell_type"] == "markdown":
            section = [section, *re.findall(r"^## +(.*\S)", source, re.MULTILINE)][-1]
        if not found:
            continue
        folds = FOLD.findall(source)
        number = found["exercise"]
        if found["role"] == "question":
            heading = HEADING.match(source)
            if not heading or heading["number"] != number:
                first = source.partition("\n")[0]
                rule = f"### Exercise {number} (5 min, easy) Title"
                raise ValueError(f"{notebook.name}: begin with {rule!r}, got {first!r}")
            said[number] = {
                "title": heading["title"].strip(),
                "kind": found["kind"],
                "minutes": int(heading["minutes"]),
                "difficulty": heading["difficulty"],
                "section": section,
                "hints": [one_line(text) for title, text in folds if "Hint" in title],
                "reason": "",
            }
        if found["role"] == "reason":
            said[number]["reason"] = "\n\n".join(text for _, text in folds)
    return said


def one_line(text: str) -> str:
    """A paragraph without its line breaks; blank lines between paragraphs stay."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def print_table(notebooks: list[Path]) -> str:
    """The text of `checks/exercises.json`, the exercises of all notebooks in order."""
    table: dict[str, dict[str, Any]] = {}
    for notebook in notebooks:
        table |= exercises(notebook)
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"
