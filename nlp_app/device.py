"""Names of devices to torch devices."""

import re

import torch

from nlp_app.errors import ConfigError


def find_device(name: str) -> torch.device:
    """The device of a name such as cpu, cuda or cuda:1; auto is a GPU where there is one, else the CPU.

    Raises:
        ConfigError: the name is unknown, or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", name):
        raise ConfigError(f"--device is {name!r}, but must be auto, cpu, cuda, cuda:1 …")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ConfigError(f"--device {name} cannot be used here ({reason}): try cpu or auto") from None
    return device
