import pytest
import torch

from nlp_app.device import find_device
from nlp_app.errors import ConfigError


def test_finds_the_cpu() -> None:
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("there", [False, True])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert find_device("auto").type == ("cuda" if there else "cpu")


@pytest.mark.parametrize("name", ["cuda:999", "xpu"])
def test_refuses_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device {name} .*: try cpu or auto"):
        find_device(name)


@pytest.mark.parametrize("name", ["nonsense", "meta", "hpu", "privateuseone", "", "cpu:x"])
def test_refuses_what_is_no_device(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device is '{name}', but must be auto, cpu, cuda"):
        find_device(name)
