from pathlib import Path

import pytest

from training.options import SAMPLE, Options, parse_options


@pytest.mark.parametrize(
    ("texts", "epochs", "patience"),
    [(8, 100, 20), (300, 100, 20), (5_000, 19, 5), (10_000, 10, 3), (25_000, 6, 2), (10_000_000, 6, 2)],
)
def test_the_number_of_texts_settles_epochs_and_patience(texts: int, epochs: int, patience: int) -> None:
    recipe = Options().recipe(texts)
    assert (recipe.epochs, recipe.patience) == (epochs, patience)
    recipe = Options(epochs=7, patience=9).recipe(texts)
    assert (recipe.epochs, recipe.patience) == (7, 9)


@pytest.mark.parametrize(
    ("refit", "validation", "texts", "wanted"),
    [
        ("auto", None, 20_000, True),
        ("auto", None, 20_001, False),
        ("auto", Path("v.csv"), 100, False),
        ("always", Path("v.csv"), 20_001, True),
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
