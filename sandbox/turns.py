"""What a run's supervisor needs to stand in line: which places it may have, what is seen of its wait, and who keeps a warm process meanwhile."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from sandbox import durable, gpu
from sandbox.zygote import SandboxFailed
from schema.job import Access, Card, Place

# A warm process takes half a GB. Of those that only wait there are as many on the machine as fit a twentieth of its memory, and always two:
# with many runs at once most have none, and begin each job four seconds later.
IDLE = [f"idle-{n}" for n in range(max(2, psutil.virtual_memory().total // (10 * 2**30)))]


@dataclass
class Wait:
    """A job in line. The person sees it, and can end it."""

    job_dir: Path
    place: Place
    since: float | None = None  # None: it had its turn at once
    seconds: float = 0.0

    def goes_on(self) -> bool:
        if self.since is None:
            self.since = time.time()
            durable.write(self.job_dir / "status.json", json.dumps({"waits_for": self.place, "since": self.since}))
        self.seconds = round(time.time() - self.since, 1)
        return self.job_dir.exists() and not (self.job_dir / "stop").exists()


def cards_of(access: Access, warm: Card | None) -> dict[str, Card]:
    """By the name of their line. The one that the process is `warm` for comes first, unless it is crowded; the
    others by the memory in use on them. Raises SandboxFailed where all that the run may use are gone."""
    if not access.gpu:
        return {}
    there = [card for card in gpu.cards() if not access.gpus or card.uuid in access.gpus]
    if access.gpus and not there:
        raise SandboxFailed(f"of the GPUs that the run may use ({', '.join(access.gpus)}) none answers")
    keeps = warm in there and warm is not None and not gpu.is_crowded(warm)
    ordered = sorted(gpu.by_room(there), key=lambda card: not keeps or card != warm)
    return {f"gpu-{card.uuid}": card for card in ordered}
