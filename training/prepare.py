"""From files to datasets: what stands between the options and the first step."""

import hashlib
import json
from dataclasses import dataclass, field

import torch
from rich.console import Console
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError, DataError
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import Tokenizer
from training.audit_quick import quick_warnings
from training.batches import Dataset
from training.console import warn
from training.data import Examples, check_labels_known, label_set, odd_labels, read_examples, split, without_blank
from training.linear import plan
from training.losses import AUTO, OUTPUT_OF, class_weights
from training.options import Options
from training.pretrain import read_unlabelled
from training.sampling import NONE
from training.sources import Given, files_of
from training.start import Start, embedding_dim, make_start
from training.vectors import read_vectors

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that training reads."""

    train: Dataset
    validation: Dataset
    tokenizer: Tokenizer
    config: ModelConfig
    class_weights: Tensor | None
    """(C,) what a text of each class weighs."""
    examples: tuple[Examples, Examples]
    """Of both parts, for a teacher to read."""
    digest: str
    """SHA-256 of the texts and labels of both parts."""
    warnings: list[str]
    start: Start = field(default_factory=Start)

    def new_module(self, seed: int) -> TextClassifier:
        """A module at its start; the same seed gives the same weights."""
        torch.manual_seed(seed)
        return self.start.put_into(TextClassifier(config=self.config))


def prepare(options: Options, console: Console) -> Prepared:
    """Read, check and split the data, train the tokenizer on the training part, encode.

    Raises:
        DataError: the data cannot be used.
    """
    for path in (*files_of(options.test), *files_of(options.out_of_scope)):
        if not path.exists():  # it is read last: say now that it is not there
            raise DataError(f"there is no file {path}")
    train, validation, warnings, notes = read_parts(options)
    for note in notes:
        console.print(note, highlight=False)
    for warning in warnings:
        warn(console, warning)
    options.loss_of(None, multi_label=train.multi_label)  # or it says now what the loss does not take
    if train.multi_label and options.sampling != NONE:
        raise ConfigError("--sampling is for one label a text, but these texts have lists of labels: leave it out")
    labels = label_set(train)
    unlabelled = None if options.unlabelled is None else read_unlabelled(options.unlabelled, options)
    texts = train.texts if unlabelled is None else [*train.texts, *unlabelled.texts]
    tokenizer = Tokenizer.train(
        texts, kind=options.tokenizer, vocab_size=options.vocab_size, min_frequency=options.min_frequency
    )
    vectors = None if options.vectors is None else read_vectors(options.vectors, tokenizer)
    slots, orders = plan(train.texts, options.ngrams)
    config = ModelConfig(
        labels=labels,
        vocab_size=tokenizer.vocab_size,
        embedding_dim=embedding_dim(options, vectors),
        num_filters=options.num_filters,
        kernel_sizes=options.kernel_sizes,
        num_blocks=options.num_blocks,
        dropout=options.dropout,
        max_length=options.max_length,
        output=OUTPUT_OF[options.loss],
        multi_label=train.multi_label,
        ngram_slots=slots,
        ngram_orders=orders,
    )
    parts = [Dataset.of(part, tokenizer=tokenizer, config=config) for part in (train, validation)]
    weights = class_weights(options.class_weights, labels, parts[0].targets)
    if weights is not None and options.class_weights == (AUTO,) and (slots or not options.evened_out):
        ratio, where = (weights.max() / weights.min()).item(), " in the n-grams" if options.evened_out else ""
        told = f"a text of the rarest weighs {ratio:.1f} times one of the most frequent"
        console.print(f"classes are skewed: {told}{where}")
    console.print(f"{len(train):,} training and {len(validation):,} validation texts, {len(labels)} labels")
    return Prepared(
        train=parts[0], validation=parts[1], tokenizer=tokenizer, config=config, class_weights=weights,
        examples=(train, validation), digest=_digest(train, validation), warnings=warnings,
        start=make_start(options, config, tokenizer, parts[0].encoded, vectors, unlabelled, console),
    )  # fmt: skip


def read_parts(options: Options) -> tuple[Examples, Examples, list[str], list[str]]:
    """The training and the validation part, what to warn of, and what to say."""
    whole = read(options.train, options)
    notes = [*whole.notes]
    train, warnings = without_blank(whole)
    warnings += odd_labels(train)
    label_set(train)
    whole_train = train
    if options.validation is None:
        train, validation = split(train, share=options.validation_share, seed=options.seed)
    else:
        validation = read(options.validation, options, VALIDATION)
        notes += [note for note in validation.notes if note not in notes]
    if validation.multi_label != train.multi_label:
        kinds = ("lists of labels", "one label a text")
        first, second = kinds if train.multi_label else kinds[::-1]
        raise DataError(f"{train.path} holds {first}, but {validation.path} {second}: write both alike")
    check_labels_known(validation, sorted(train.label_counts))
    warnings += quick_warnings(whole_train, None if options.validation is None else validation)
    return train, validation, warnings, notes


def read(given: Given, options: Options, part: str = TRAIN) -> Examples:
    """The examples of a part, by the columns of the options."""
    return read_examples(
        given,
        text_columns=options.text_column,
        label_column=options.label_column,
        separator=options.label_separator,
        encoding=options.encoding,
        query={TRAIN: options.query, VALIDATION: options.validation_query, TEST: options.test_query}[part],
        split=part,
    )


def _digest(*parts: Examples) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps([part.texts, part.labels]).encode())
    return digest.hexdigest()
