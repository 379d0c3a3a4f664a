from pathlib import Path

import pytest
import torch

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError
from nlp_app.model import TextClassifier
from training import memory
from training.memory import free_bytes, is_out_of_memory, kept_bytes_per_token, out_of_memory_said, step_bytes

CPU = torch.device("cpu")
CONFIG = ModelConfig(labels=("a", "b"), vocab_size=1000, embedding_dim=32, num_filters=16, kernel_sizes=(1, 3))


def test_what_is_kept_grows_with_the_blocks_and_not_with_the_vocabulary() -> None:
    one = kept_bytes_per_token(CONFIG)
    four = kept_bytes_per_token(ModelConfig(**{**CONFIG.__dict__, "num_blocks": 4}))
    assert kept_bytes_per_token(ModelConfig(**{**CONFIG.__dict__, "vocab_size": 9})) == one
    assert 4 * 32 < one < four < 8 * one
    # The third of the tensors that a block keeps is at least its input, BatchNorm's and ReLU's: 3 of 32 floats.
    assert (four - one) / 3 >= 3 * 4 * 32


def test_a_step_needs_more_for_more_texts_tokens_and_words() -> None:
    base = step_bytes(CONFIG, texts=8, tokens=64)
    assert step_bytes(CONFIG, texts=16, tokens=64) > 1.5 * base - 5 * 4 * 32_000
    assert step_bytes(CONFIG, texts=8, tokens=128) == step_bytes(CONFIG, texts=16, tokens=64)
    wide = ModelConfig(**{**CONFIG.__dict__, "vocab_size": 2000})
    assert step_bytes(wide, texts=8, tokens=64) - base == 5 * 4 * 32 * 1000


def test_measuring_changes_neither_chance_nor_a_module() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    kept_bytes_per_token(CONFIG)
    assert torch.equal(torch.rand(3), expected)


def test_free_memory_is_the_least_of_machine_and_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert free_bytes(CPU) is None
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert free_bytes(CPU) == 4000 * 1024
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(CPU) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    assert free_bytes(CPU) == 2000000
    (tmp_path / "memory.max").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("3000000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("500000\n")
    assert free_bytes(CPU) == 2500000


def test_knows_out_of_memory_where_it_sees_it() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.int8)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("you tried to allocate"))
    assert not is_out_of_memory(None)


@pytest.mark.parametrize(
    "message",
    [
        "could not create a primitive",
        "could not create a memory object",
        "could not execute a primitive",
        "std::bad_alloc",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_knows_it_by_what_the_libraries_of_torch_say(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_around_a_command_it_is_said_in_a_sentence(error: Exception) -> None:
    with pytest.raises(ConfigError, match="out of memory: lower --batch-size, --max-length"), out_of_memory_said():
        raise error


def test_around_a_command_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"), out_of_memory_said():
        raise RuntimeError("shapes do not match")


def test_the_estimate_is_near_what_the_profiler_sees() -> None:
    """Within a third, on one block and on four, of the peak of a plain step without its weights."""
    from training.losses import Loss
    from training.measure import peak_bytes
    from training.sharding import backward_whole

    for blocks in (1, 4):
        config = ModelConfig(**{**CONFIG.__dict__, "num_blocks": blocks, "vocab_size": 8})
        module = TextClassifier(config=config).train()
        input_ids, targets = torch.randint(2, 8, (32, 64)), torch.zeros(32, dtype=torch.int64)
        backward_whole(module, Loss(), input_ids, targets)
        module.zero_grad(set_to_none=True)
        peak = peak_bytes(lambda: backward_whole(module, Loss(), input_ids, targets), CPU)  # noqa: B023
        assert 0.75 < step_bytes(config, texts=32, tokens=64) / peak < 1.34
