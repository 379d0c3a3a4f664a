from pathlib import Path

import pytest

from nlp_app.errors import ConfigError
from training.options import SAMPLE, Options, parse_options
from training.report import trained


@pytest.mark.parametrize(
    ("texts", "epochs", "patience"),
    [(8, 100, 20), (300, 100, 20), (5_000, 19, 5), (10_000, 10, 3), (25_000, 6, 2), (10_000_000, 6, 2)],
)
def test_the_number_of_texts_settles_epochs_and_patience(texts: int, epochs: int, patience: int) -> None:
    recipe = Options().recipe(texts, 2)
    assert (recipe.epochs, recipe.patience) == (epochs, patience)
    assert Options().recipe(texts, 2, tokens=10**9).epochs == 1
    recipe = Options(epochs=7, patience=9).recipe(texts, 2)
    assert (recipe.epochs, recipe.patience) == (7, 9)


@pytest.mark.parametrize(
    ("refit", "validation", "texts", "wanted"),
    [
        ("auto", None, 600_000, True),
        ("auto", None, 600_001, False),
        ("auto", Path("v.csv"), 100, False),
        ("always", Path("v.csv"), 600_001, True),
        ("never", None, 100, False),
    ],
)
def test_a_small_set_is_refitted_unless_the_validation_file_is_the_users(
    refit: str, validation: Path | None, texts: int, wanted: bool
) -> None:
    assert Options(refit=refit, validation=validation).wants_refit(texts) is wanted


def test_without_arguments_it_is_the_sample_set_with_its_test_file() -> None:
    options = parse_options([])
    assert (options.train, options.test, options.validation) == (SAMPLE / "train.csv", SAMPLE / "test.csv", None)


def test_the_users_training_file_is_not_tested_on_the_sample() -> None:
    assert parse_options(["--train", "mine.csv"]).test is None


def test_flags_that_take_several_values() -> None:
    options = parse_options(["--kernel-sizes", "3", "5", "--text-column", "subject", "--text-column", "body"])
    assert (options.kernel_sizes, options.text_column) == ((3, 5), ("subject", "body"))


def test_every_flag_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_options(["--help"])
    assert exit_info.value.code == 0
    words = capsys.readouterr().out.split()
    assert {"--train", "--resume", "--overwrite", "--refit", "--epochs"} <= set(words)


@pytest.mark.parametrize("arguments", [["--epoch-count", "3"], ["--epochs", "many"], ["--refit", "sometimes"]])
def test_argparse_refuses_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_options(arguments)
    assert exit_info.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--micro-batch-size 65", "--micro-batch-size is 65, but must be at most --batch-size, which is 64"),
        ("--micro-batch-size 1 --sharding fast", "--micro-batch-size 1 may leave BatchNorm one value per channel"),
        ("--micro-batch-size 0", "--micro-batch-size is 0, but must be from 1"),
        ("--patience 0", "--patience is 0, but must be from 1"),
        ("--evaluate-every 0", "--evaluate-every is 0, but must be from 1"),
        ("--loss nll --label-smoothing 0.1", "--label-smoothing needs --loss cross-entropy"),
        ("--label-smoothing 0.1 --focal-gamma 2", "--label-smoothing and --focal-gamma exclude each other"),
        ("--label-smoothing 1.5", "--label-smoothing is 1.5, but must be from 0 to 0.9"),
        ("--margin 1x", "--margin is '1x', but must be a number of 0 or more, or one followed by se"),
        ("--margin 0.1 --stop-rule gl", "--margin belongs to --stop-rule progress, not to gl"),
        ("--stop-threshold 3", "--stop-threshold belongs to --stop-rule gl or pq"),
        ("--compile --micro-batch-size 8", "--compile takes neither --micro-batch-size nor --gradient-checkpointing"),
        ("--compile --gradient-checkpointing blocks", "--compile takes neither"),
        (
            "--compile --gradient-checkpointing auto",
            "--compile takes neither --micro-batch-size nor --gradient-checkpointing blocks or auto",
        ),
        ("--patience 3 --stop-rule gl", "--patience belongs to --stop-rule progress or pq, not to gl: leave it out"),
        (
            "--patience 1 --stop-rule pq",
            "--patience 1 leaves --stop-rule pq strips of one evaluation, which show no progress: give 2 or more",
        ),
    ],
)
def test_refuses_what_does_not_go_together(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options(arguments.split())
    assert message in str(error.value)


@pytest.mark.parametrize("arguments", ["--loss hinge", "--schedule step", "--stop-rule up", "--freeze output"])
def test_argparse_names_the_choices(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_options(arguments.split())
    assert exit_info.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_what_saves_memory_may_be_changed_when_a_run_is_resumed() -> None:
    changed = Options(micro_batch_size=8, gradient_checkpointing="blocks")
    assert changed.fingerprint() == Options().fingerprint()
    assert Options(loss="nll").fingerprint() != Options().fingerprint()


def test_fast_parts_are_a_part_of_the_update_and_may_not_be_changed() -> None:
    eight, four = (Options(micro_batch_size=size, sharding="fast") for size in (8, 4))
    assert (eight.fingerprint()["micro_batch_size"], four.fingerprint()["micro_batch_size"]) == (8, 4)
    assert trained(eight)["options"]["micro_batch_size"] == 8
    assert "micro_batch_size" not in Options(micro_batch_size=8).fingerprint()


def test_patience_beside_gl_is_the_schedules() -> None:
    assert Options(patience=3, stop_rule="gl", schedule="plateau").recipe(64, 2).patience == 3


def test_patience_counts_evaluations() -> None:
    assert Options(evaluate_every=40).recipe(64_000, 2).patience == 10
    assert Options().stopping(3).threshold == 0
    assert (Options(stop_rule="gl").stopping(3).threshold, Options(stop_rule="pq").stopping(3).threshold) == (5, 0.75)


def test_each_number_is_of_the_kind_that_its_field_says() -> None:
    """--stop-threshold has no default to tell from that it may be a fraction."""
    line = "--stop-rule pq --stop-threshold 0.5 --epochs 3 --kernel-sizes 2 4 --dropout 0"
    given = parse_options(line.split())
    assert (given.stop_threshold, given.epochs, given.kernel_sizes, given.dropout) == (0.5, 3, (2, 4), 0.0)
    assert parse_options(["--train", "x.csv", "y.csv"]).train == ("x.csv", "y.csv")


def test_only_the_vectors_of_others_are_trained_at_a_lower_rate() -> None:
    assert [Options(vectors=name).recipe(9000, 6).embedding_rate for name in (None, "v.txt")] == [1, 0.1]


def test_many_classes_take_a_higher_rate() -> None:
    assert Options().recipe(9000, 77).learning_rate > Options().recipe(9000, 6).learning_rate
    assert Options(learning_rate=0.5).recipe(9000, 77).learning_rate == 0.5


@pytest.mark.parametrize("flag", ["--train", "--teacher", "--vectors", "--unlabelled", "--label-separator", "--output"])
def test_refuses_an_empty_word(flag: str) -> None:
    with pytest.raises(ConfigError, match=f"{flag} is empty: give it a value, or leave it out"):
        parse_options([flag, ""])
