"""`make` installs the PyTorch that fits. Python, uv and nvidia-smi are played: they write down what they are asked for."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITES = """#!/bin/sh
echo "$(basename "$0") $*" >> asked.txt
for word in "$@"; do case "$word" in *uv.lock) cp "$word" rest.lock;; esac; done
"""
PYTHON = f"""#!/bin/sh
[ "$*" = "-m venv .venv" ] || exit 0
mkdir -p .venv/bin
cat > .venv/bin/uv <<'END'
{WRITES}END
cp .venv/bin/uv .venv/bin/python
chmod +x .venv/bin/uv .venv/bin/python
"""
SMI = "#!/bin/sh\necho '| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: {cuda} |'\n"
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")


class Checkout:
    """What `make` needs, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        self.program("python3", PYTHON)

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def make(self, *words: str) -> tuple[int, str]:
        env = os.environ | {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"}
        env = {name: value for name, value in env.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            ["make", "format", *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    def asked(self) -> str:
        return (self.folder / "asked.txt").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def packages(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("label", ["CUDA Version", "CUDA UMD Version"])
@pytest.mark.parametrize(("cuda", "index"), [("12.4", "cu128"), ("11.8", "cpu")])
def test_a_driver_that_is_too_old_is_told_before_the_download(
    checkout: Checkout, cuda: str, index: str, label: str
) -> None:
    checkout.program("nvidia-smi", SMI.format(cuda=cuda).replace("CUDA Version", label))
    _, told = checkout.make()
    (line,) = [line for line in told.split("\n") if "NVIDIA driver" in line]
    assert f"supports CUDA {cuda[:2]}, and this PyTorch needs CUDA 13" in line
    assert line.endswith(f"make TORCH={index} format")
    assert told.index(line) < told.index("[1/3]")


@pytest.mark.parametrize("cuda", ["13.0", "13.2", "14.1", None])
def test_a_driver_that_fits_and_no_driver_are_not_spoken_of(checkout: Checkout, cuda: str | None) -> None:
    checkout.program("nvidia-smi", SMI.format(cuda=cuda) if cuda else "#!/bin/sh\nexit 9\n")
    _, told = checkout.make()
    assert "NVIDIA" not in told
    assert "pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock" in checkout.asked()
    assert "download.pytorch.org" not in checkout.asked()


@pytest.mark.parametrize("index", ["cu128", "cpu"])
def test_another_pytorch_comes_from_its_index_and_all_else_from_the_lock(checkout: Checkout, index: str) -> None:
    _, told = checkout.make(f"TORCH={index}")
    assert f"PyTorch from https://download.pytorch.org/whl/{index}" in told
    assert f"--index https://download.pytorch.org/whl/{index} torch>=2.10 torchvision>=0.25" in checkout.asked()
    left_out = packages(ROOT / "requirements.lock") - packages(checkout.folder / "rest.lock")
    assert {"torch", "torchvision", "triton", "cuda-toolkit", "nvidia-cudnn-cu13"} <= left_out
    assert all(re.match(r"torch$|torchvision$|triton$|cuda-|nvidia-", name) for name in left_out)
    assert {"nvidia-ml-py", "timm", "numpy", "uv"} <= packages(checkout.folder / "rest.lock")
    assert "\n    --hash" in (checkout.folder / "rest.lock").read_text()


def test_the_choice_stays_until_another_is_made(checkout: Checkout) -> None:
    checkout.make("TORCH=cpu")
    before = checkout.asked()
    checkout.make()
    assert "sync" not in checkout.asked().removeprefix(before)
    checkout.make("TORCH=default")
    assert "--require-hashes requirements.lock" in checkout.asked().removeprefix(before)


def test_a_slip_of_the_pen_is_told(checkout: Checkout) -> None:
    code, told = checkout.make("TORCH=cuda")
    assert code == 2
    assert "TORCH=cuda: expected default, cpu, or an index of PyTorch such as cu128" in told
