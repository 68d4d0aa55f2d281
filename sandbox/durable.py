"""Small files of ours that are whole or not there, even when the power fails: what is read after that has to be true."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
