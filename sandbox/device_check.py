# ruff: noqa: TID251 - runs inside the sandbox, as jobs do
"""Compute one number on the GPU that this process sees, and answer as JSON on descriptor 3."""

import json
import os


def main() -> None:
    told: dict[str, object] = {}
    try:
        _compute(told)
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"[:2000]
    with os.fdopen(3, "w") as channel:
        json.dump(told, channel)


def _compute(told: dict[str, object]) -> None:
    """Whatever is known is told before the next step can fail."""
    import torch  # noqa: PLC0415 - that it cannot be imported is an answer, too

    told["torch"], told["cuda"] = str(torch.__version__), torch.version.cuda or ""
    torch.cuda.init()  # type: ignore[no-untyped-call]  # unlike is_available() it says why not
    told["archs"] = torch.cuda.get_arch_list()
    told["capability"] = "{}.{}".format(*torch.cuda.get_device_capability())
    told["memory_bytes"] = torch.cuda.mem_get_info()[1]
    if (torch.ones(1, device="cuda") + 1).item() != 2:
        raise ArithmeticError("1 + 1 is not 2 on this GPU")


if __name__ == "__main__":
    main()
