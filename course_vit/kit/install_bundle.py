"""Install the course from this folder, without a network: python install.py [FOLDER]

FOLDER is where the environment is made (default: course_vit-room in this folder).
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

PYTHON = "@@PYTHON@@"
HERE = Path(__file__).resolve().parent


def main():
    here = ".".join(map(str, sys.version_info[:2]))
    if here != PYTHON:
        sys.exit(f"This bundle is for Python {PYTHON}, and this is Python {here}.")
    print("Comparing the files with their checksums ...", flush=True)
    for line in (HERE / "SHA256SUMS").read_text("utf-8").splitlines():
        wanted, name = line.split("  ", 1)
        path = HERE / name
        if not path.is_file():
            sys.exit(f"{name} is missing: copy the bundle again.")
        with path.open("rb") as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
        if found.hexdigest() != wanted:
            sys.exit(f"{name} is damaged: copy the bundle again.")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "course_vit-room")
    print(f"Installing into {folder}; this takes some minutes ...", flush=True)
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    install = "-m pip install -q --no-index --disable-pip-version-check -f"
    command = [programs / "python", *install.split(), HERE / "wheels"]
    if subprocess.run([*command, "course_vit[course,check]"]).returncode:
        sys.exit("The installation failed: see the message above, and run it again.")
    print(f"Done. Begin with: {programs / 'course-vit'} lab")


if __name__ == "__main__":
    main()
