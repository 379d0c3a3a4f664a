from dataclasses import replace
from pathlib import Path

import pytest

from nlp_app.errors import ConfigError
from training import assemble
from training.assemble import check_machine, new_learner
from training.console import make_console
from training.options import Options
from training.prepare import Prepared, prepare
from training.recompute import recomputes

SMALL = {"embedding_dim": 8, "num_filters": 4, "batch_size": 8}


def prepared_for(train_csv: Path, **values: object) -> tuple[Options, Prepared]:
    options = Options(train=train_csv, **(SMALL | values))  # type: ignore[arg-type]
    return options, prepare(options, make_console())


@pytest.mark.parametrize(
    ("mode", "blocks", "free", "on", "said"),
    [
        ("auto", 2, 1, True, "gradient checkpointing is on"),
        ("auto", 2, 10**12, False, ""),
        ("auto", 2, None, False, ""),
        ("auto", 1, 1, False, "gradient checkpointing saves nothing in a single block, give --micro-batch-size"),
        ("none", 2, 1, False, ""),
        ("blocks", 2, 10**12, True, ""),
    ],
)
def test_auto_recomputes_where_the_largest_batch_would_not_fit(
    train_csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    mode: str, blocks: int, free: int | None, on: bool, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(assemble, "free_bytes", lambda _: free)
    options, prepared = prepared_for(train_csv, gradient_checkpointing=mode, num_blocks=blocks)
    capsys.readouterr()
    learner = new_learner(options, prepared, prepared.train, make_console())
    assert recomputes(learner.module) is on
    screen = capsys.readouterr().out
    assert said in screen
    assert bool(said) == bool(screen)


def estimated(train_csv: Path, monkeypatch: pytest.MonkeyPatch, **values: object) -> tuple[bool, list[int]]:
    """Whether blocks are recomputed where nothing fits, and of how many texts that was found."""
    texts: list[int] = []

    def step_bytes(_: object, **sizes: int) -> int:
        texts.append(sizes["texts"])
        return 2

    monkeypatch.setattr(assemble, "free_bytes", lambda _: 1)
    monkeypatch.setattr(assemble, "step_bytes", step_bytes)
    options, prepared = prepared_for(train_csv, gradient_checkpointing="auto", **values)
    return recomputes(new_learner(options, prepared, prepared.train, make_console()).module), texts


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (True, [8])),
        ({"micro_batch_size": 3, "sharding": "fast"}, (True, [3])),
        ({"micro_batch_size": 8}, (True, [8])),  # one part: the whole batch
        ({"micro_batch_size": 3}, (False, [])),  # exact parts recompute nothing
    ],
)
def test_auto_estimates_with_the_parts_that_are_in_memory_at_once(
    train_csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    values: dict[str, object], expected: tuple[bool, list[int]],
) -> None:  # fmt: skip
    assert estimated(train_csv, monkeypatch, num_blocks=2, **values) == expected
    assert ("gradient checkpointing is on" in capsys.readouterr().out) is expected[0]


def test_with_parts_the_remedy_is_smaller_ones(
    train_csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    estimated(train_csv, monkeypatch, micro_batch_size=3, sharding="fast")
    assert "saves nothing in a single block, lower --micro-batch-size" in capsys.readouterr().out


def test_class_weights_reach_the_loss(train_csv: Path) -> None:
    options, prepared = prepared_for(train_csv, class_weights=("cold=1", "hot=2", "warm=3"))
    weights = new_learner(options, prepared, prepared.train, make_console()).recipe.loss.class_weights
    assert weights is not None
    assert weights.tolist() == [1, 2, 3]
    with pytest.raises(ConfigError, match="--class-weights lacks 'warm'"):
        prepared_for(train_csv, class_weights=("cold=1", "hot=2"))


def test_nll_makes_the_module_end_in_log_probabilities(train_csv: Path) -> None:
    assert [prepared_for(train_csv, loss=name)[1].config.output for name in ("cross-entropy", "nll")] == [
        "logits",
        "log_probabilities",
    ]


def test_compile_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match=r"--compile needs a C\+\+ compiler, and there is none of g\+\+"):
        check_machine(Options(compile=True))
    check_machine(Options())


def test_sizes_are_explained_only_where_asked_for(
    train_csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, prepared = prepared_for(train_csv, explain_sizes=True)
    asked = []

    def explain(config: object, **values: object) -> list[object]:
        asked.append((config, values["batch_size"]))
        return []

    monkeypatch.setattr(assemble, "explain", explain)
    assemble.explain_sizes(options, prepared, make_console())
    assemble.explain_sizes(replace(options, micro_batch_size=3), prepared, make_console())
    assemble.explain_sizes(Options(), prepared, make_console())
    assert asked == [(prepared.config, 8), (prepared.config, 3)]
