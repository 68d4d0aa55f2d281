"""Run a program of ours that reads what strangers made, without the means to start another program or process.

Inside the sandbox, as `python -P -m sandbox.isolation.alone PROGRAM ...`, before anything of the environment is imported.
"""

import runpy
import sys

from sandbox.isolation import seccomp


def main() -> None:
    if sys.platform == "linux":
        seccomp.apply(seccomp.alone())
    sys.argv.pop(0)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
