"""From files to datasets: what stands between the options and the first step."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from nlp_app.config import ModelConfig
from nlp_app.errors import DataError
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import Tokenizer
from training.batches import Dataset
from training.console import warn
from training.data import Examples, check_labels_known, label_set, odd_labels, read_examples, split, without_blank
from training.losses import OUTPUT_OF, class_weights
from training.options import Options


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that training reads."""

    train: Dataset
    validation: Dataset
    tokenizer: Tokenizer
    config: ModelConfig
    digest: str
    """SHA-256 of the texts and labels of both parts."""
    warnings: list[str]

    def new_module(self, seed: int) -> TextClassifier:
        """An untrained module; the same seed gives the same weights."""
        torch.manual_seed(seed)
        return TextClassifier(config=self.config)


def prepare(options: Options, console: Console) -> Prepared:
    """Read, check and split the data, train the tokenizer on the training part, encode.

    Raises:
        DataError: the data cannot be used.
    """
    if options.test is not None and not options.test.is_file():  # it is read last: say now that it is not there
        raise DataError(f"there is no file {options.test}")
    train, validation, warnings = read_parts(options)
    for warning in warnings:
        warn(console, warning)
    labels = label_set(train)
    tokenizer = Tokenizer.train(
        train.texts, kind=options.tokenizer, vocab_size=options.vocab_size, min_frequency=options.min_frequency
    )
    config = ModelConfig(
        labels=labels,
        vocab_size=tokenizer.vocab_size,
        embedding_dim=options.embedding_dim,
        num_filters=options.num_filters,
        kernel_sizes=options.kernel_sizes,
        num_blocks=options.num_blocks,
        dropout=options.dropout,
        max_length=options.max_length,
        output=OUTPUT_OF[options.loss],
    )
    parts = [
        Dataset.of(part, tokenizer=tokenizer, labels=labels, max_length=options.max_length)
        for part in (train, validation)
    ]
    class_weights(options.class_weights, labels, parts[0].targets)  # or it says now what is wrong with them
    console.print(f"{len(train):,} training and {len(validation):,} validation texts, {len(labels)} labels")
    return Prepared(
        train=parts[0], validation=parts[1], tokenizer=tokenizer, config=config,
        digest=_digest(train, validation), warnings=warnings,
    )  # fmt: skip


def read_parts(options: Options) -> tuple[Examples, Examples, list[str]]:
    """The training and the validation part, and what to warn of."""
    train, warnings = without_blank(read(options.train, options))
    warnings += odd_labels(train)
    label_set(train)
    if options.validation is None:
        train, validation = split(train, share=options.validation_share, seed=options.seed)
    else:
        validation = read(options.validation, options)
    check_labels_known(validation, sorted(set(train.labels)))
    return train, validation, warnings


def read(path: Path, options: Options) -> Examples:
    """The examples of a file, by the columns of the options."""
    return read_examples(path, text_columns=options.text_column, label_column=options.label_column)


def _digest(*parts: Examples) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps([part.texts, part.labels]).encode())
    return digest.hexdigest()
