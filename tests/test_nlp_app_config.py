import dataclasses
import json

import pytest

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError

CONFIG = ModelConfig(labels=("a", "b", "c"), vocab_size=10)


def test_number_of_classes_follows_from_the_labels() -> None:
    assert CONFIG.num_classes == 3


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.dropout = 0.1  # type: ignore[misc]


def test_survives_json() -> None:
    assert ModelConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", ("a",), "at least 2 labels, not 1"),
        ("labels", ("a", "b", "a"), "label 'a' stands more than once"),
        ("labels", ("a", 1), "must be a tuple of strings"),
        ("vocab_size", 1, "vocab_size is 1, but must be a whole number of 2 or more"),
        ("embedding_dim", 0, "embedding_dim is 0"),
        ("num_filters", 1.5, "num_filters is 1.5"),
        ("num_blocks", True, "num_blocks is True"),
        ("max_length", -1, "max_length is -1"),
        ("max_length", 65_537, "max_length is 65537, but must be at most 65,536"),
        ("ngram_orders", (2, 10**9), "a length in ngram_orders is 1000000000, but must be at most 32"),
        ("ngram_orders", (33,), "a length in ngram_orders is 33, but must be at most 32"),
        ("kernel_sizes", (), r"kernel_sizes is \(\), but must hold at least one width"),
        ("kernel_sizes", (3, 0), "a kernel size is 0"),
        ("dropout", 1.0, "dropout is 1.0, but must be a number from 0 up to"),
        ("dropout", float("nan"), "dropout is nan"),
        ("dropout", "x", "dropout is 'x'"),
    ],
)
def test_refuses_values_that_break_a_rule(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **{name: value})  # type: ignore[arg-type]


def test_refuses_missing_and_unknown_keys() -> None:
    values = CONFIG.to_json()
    with pytest.raises(ConfigError, match="lacks 'dropout', 'labels'"):
        ModelConfig.from_json({name: value for name, value in values.items() if name not in ("dropout", "labels")})
    with pytest.raises(ConfigError, match="keys that this version does not know: 'heads'"):
        ModelConfig.from_json({**values, "heads": 2})


def test_a_config_from_before_there_was_a_choice_of_output_ends_in_logits() -> None:
    values = ModelConfig(labels=("a", "b"), vocab_size=9).to_json()
    del values["output"]
    assert ModelConfig.from_json(values).output == "logits"


def test_refuses_an_unknown_output() -> None:
    with pytest.raises(ConfigError, match="output is 'odds', but must be one of logits, log_probabilities"):
        ModelConfig(labels=("a", "b"), vocab_size=9, output="odds")
