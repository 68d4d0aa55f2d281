"""Numbers and names in words, for prompts."""

from importlib.metadata import PackageNotFoundError, version

from schema.dataset import DatasetProfile
from schema.team import Brief, Hardware
from schema.text import one_line

PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors", "pillow")
MOST_CLASSES, MOST_WEIGHTS, MOST_RACED, MOST_WARNINGS = 100, 60, 12, 8
NAME = 60  # characters of a class's name


def machine(hardware: Hardware) -> str:
    memory = f"{hardware.memory_bytes / 2**30:.0f} GB of memory"
    if hardware.device == "cuda":
        return f"One GPU ({one_line(hardware.name, 60)}, {hardware.gpu_memory_bytes / 2**30:.0f} GB), {hardware.cores} cores, {memory}"
    return f"No GPU: a CPU with {hardware.cores} cores ({one_line(hardware.name, 60)}), {memory}"


def speed(hardware: Hardware) -> str:
    """A rule of thumb, for who has to choose a size before anything was measured (two cores of an AMD EPYC: 49 billion in bfloat16)."""
    if hardware.device == "cuda":
        return (
            "As a rule, training on a GPU gets through 1 to 10 trillion multiplications of the forward pass a second."
        )
    low, high = 10 * hardware.cores, 25 * hardware.cores
    return (
        f"As a rule, training on this CPU gets through {low} to {high} billion multiplications of the forward pass a second: "
        f"with 50 million per image, {1000 * low // 50} to {1000 * high // 50} images a second."
    )


def packages() -> str:
    return ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))


def _version(name: str) -> str:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return ""


def weights(brief: Brief) -> str:
    names = list(brief.weights)
    there = ", ".join(names[:MOST_WEIGHTS]) + (
        f" and {len(names) - MOST_WEIGHTS} more" if len(names) > MOST_WEIGHTS else ""
    )
    on_disk = f"on disk: {there}" if names else "none on disk"
    if brief.hub:
        return f"{on_disk}. Others that timm or torchvision list are fetched where the source names them as plain text.{_race(brief)}"
    return f"{on_disk}. There is no network to fetch others: asking for any other fails.{_race(brief)}"


def _race(brief: Brief) -> str:
    """What was found out about them before the first pipeline."""
    if brief.race is None or not brief.race.entries:
        return ""
    told = [
        f"{one.name}{' with pad_type=' + repr(one.pad_type) if one.pad_type else ''} at {one.height} x {one.width}: {one.accuracy:.3f}"
        + (
            f" ({one.images_per_second:.0f} images a second forward)"
            if one.pretrained
            else f" after {one.seconds:.0f} s"
        )
        for one in brief.race.entries[:MOST_RACED]
    ]
    return (
        " Measured on a sample of these training images, accuracy of a linear head on frozen features, height x width of the images"
        f" (of a network from scratch: of a short training): {'; '.join(told)}."
    )


def batch_size(profile: DatasetProfile) -> int:
    """Return what `loaders.batch_size` is where nothing else is asked for (sandbox/script/loaders.py)."""
    return max(8, min(128, (profile.size("train") - profile.inner) // 16))


def class_table(profile: DatasetProfile) -> str:
    """Names are quoted, cut and counted: they are the person's data."""
    pairs = list(zip(profile.classes, profile.counts["train"], strict=True))[:MOST_CLASSES]
    more = f", and {len(profile.classes) - MOST_CLASSES} more" if len(profile.classes) > MOST_CLASSES else ""
    return ", ".join(f'"{quotable(name)}" {count}' for name, count in pairs) + more + "."


def quotable(text: str) -> str:
    return one_line(text, NAME).replace('"', "'")


def sizes(profile: DatasetProfile) -> str:
    s = profile.sizes
    if s.uniform:
        return f"all {s.height_max} x {s.width_max}"
    return f"{s.height_min} to {s.height_max} high (median {s.height_median}) and {s.width_min} to {s.width_max} wide (median {s.width_median})"


def duplicates(profile: DatasetProfile) -> str:
    d = profile.duplicates
    if not (d.exact or d.near):
        return ""
    return (
        f"{d.exact} exact, {d.near} near, {d.contradicting} with contradicting labels (kept on one side of every split)"
    )
