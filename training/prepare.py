"""From files to datasets: what stands between the options and the first step."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError, DataError
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import Tokenizer
from training.audit_quick import quick_warnings
from training.batches import Dataset, Rows
from training.console import warn
from training.data import (
    Counted,
    Examples,
    check_labels_known,
    label_set,
    odd_labels,
    read_examples,
    split,
    without_blank,
)  # fmt: skip
from training.linear import plan_for
from training.losses import AUTO, OUTPUT_OF, weights_by_counts
from training.options import ALWAYS, AUTO_CACHE, CHARACTERS_IN_MEMORY, TEXTS_IN_MEMORY, Options
from training.pretrain import read_unlabelled
from training.sampling import NONE
from training.source_files import Source
from training.sources import Given, check_words, files_of, find_sources, name_of
from training.start import Start, embedding_dim, make_start
from training.stream import Stream, exceeds, stream_of
from training.vectors import read_vectors

TRAIN, VALIDATION, TEST = "train", "validation", "test"

if TYPE_CHECKING:
    from training.large import LargePart

NO_EXAMPLES = Examples(path=Path(), texts=[], labels=[], lines=[])


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that training reads."""

    train: Rows
    validation: Dataset
    tokenizer: Tokenizer
    config: ModelConfig
    class_weights: Tensor | None
    """(C,) what a text of each class weighs."""
    examples: tuple[Examples, Examples]
    """Of both parts, for a teacher to read; no training texts where they are kept on disk."""
    digest: str
    """SHA-256 of the texts and labels of both parts."""
    warnings: list[str]
    start: Start = field(default_factory=Start)
    sampled: dict[str, int] | None = None
    """For metrics.json, where texts are kept on disk: how many of them each part is fitted to."""

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
    if options.test is not None:
        check_words(options.test, options.test_query, TEST)
    sources = find_sources(options.train, encoding=options.encoding, query=options.query)
    large = is_large(options, sources, console)
    train, validation, warnings, notes = (
        read_large(options, sources, console) if large else read_parts(options, sources)
    )
    for note in notes:
        console.print(note, highlight=False)
    for warning in warnings:
        warn(console, warning)
    options.loss_of(None, multi_label=train.multi_label)  # or it says now what the loss does not take
    if train.multi_label and options.sampling != NONE:
        raise ConfigError("--sampling is for one label a text, but these texts have lists of labels: leave it out")
    labels = label_set(train)
    unlabelled = None if options.unlabelled is None else read_unlabelled(options.unlabelled, options)
    tokenizer = Tokenizer.train(
        chain(_texts_of(train), unlabelled.texts if unlabelled else ()),
        kind=options.tokenizer,
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
    )
    vectors = None if options.vectors is None else read_vectors(options.vectors, tokenizer)
    slots, orders = plan_for(train.characters, options.ngrams)
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
    rows = encoded(train, tokenizer, config)
    weights = _weights(options, train, labels)
    if weights is not None and options.class_weights == (AUTO,) and (slots or not options.evened_out):
        ratio, where = (weights.max() / weights.min()).item(), " in the n-grams" if options.evened_out else ""
        told = f"a text of the rarest weighs {ratio:.1f} times one of the most frequent"
        console.print(f"classes are skewed: {told}{where}")
    console.print(f"{len(train):,} training and {len(validation):,} validation texts, {len(labels)} labels")
    return Prepared(
        train=rows, validation=Dataset.of(validation, tokenizer=tokenizer, config=config), tokenizer=tokenizer,
        config=config, class_weights=weights,
        examples=(train if isinstance(train, Examples) else NO_EXAMPLES, validation),
        digest=_digest(train, validation), warnings=warnings,
        start=make_start(options, config, tokenizer, rows, vectors, unlabelled, console),
        sampled=None if isinstance(train, Examples) else train.told(rows, options.ngram_every, config),
    )  # fmt: skip


def is_large(options: Options, sources: list[Source], console: Console) -> bool:
    """Whether the training texts are kept on disk; a teacher scores texts in memory."""
    if options.cache != AUTO_CACHE or options.teacher is not None:
        return options.cache == ALWAYS
    large = exceeds(stream(options, sources), texts=TEXTS_IN_MEMORY, characters=CHARACTERS_IN_MEMORY)
    if large:
        more = f"{name_of(sources)} has more than {TEXTS_IN_MEMORY:,} texts, or {CHARACTERS_IN_MEMORY:,} characters"
        kept = "they are kept on disk (--cache never: in memory), and looked at by training.audit alone"
        console.print(f"{more}: {kept}")
    return large


def stream(options: Options, sources: list[Source]) -> Stream:
    """The training texts, to be read one at a time."""
    return stream_of(
        sources,
        text_columns=options.text_column,
        label_column=options.label_column,
        separator=options.label_separator,
    )


def read_large(
    options: Options, sources: list[Source], console: Console
) -> "tuple[LargePart, Examples, list[str], list[str]]":
    """As read_parts, but the training part is on disk."""
    from training.large import LargePart, cache_folder  # where all is in memory, pyarrow is not loaded

    if options.teacher is not None:
        raise ConfigError(
            "--teacher scores texts in memory, but these are kept on disk: leave it out, or --cache never"
        )
    share = options.validation_share if options.validation is None else None
    cache, texts = cache_folder(options.cache_dir), stream(options, sources)
    train = LargePart(source=texts, cache=cache, share=share, seed=options.seed, console=console)
    validation = train.held_back if options.validation is None else read(options.validation, options, VALIDATION)
    _check_alike(train, validation)
    return train, validation, train.texts.warnings(), texts.notes()


def read_parts(
    options: Options, sources: list[Source] | None = None
) -> tuple[Examples, Examples, list[str], list[str]]:
    """The training and the validation part, what to warn of, and what to say."""
    whole = read(options.train if sources is None else sources, options)
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
    _check_alike(train, validation)
    warnings += quick_warnings(whole_train, None if options.validation is None else validation)
    return train, validation, warnings, notes


def _check_alike(train: Counted, validation: Examples) -> None:
    """Raise a DataError where the parts have labels of two kinds, or the second one has some of its own."""
    if validation.multi_label != train.multi_label:
        kinds = ("lists of labels", "one label a text")
        first, second = kinds if train.multi_label else kinds[::-1]
        raise DataError(f"{train.path} holds {first}, but {validation.path} {second}: write both alike")
    check_labels_known(validation, sorted(train.label_counts))


def read(given: Given | list[Source], options: Options, part: str = TRAIN) -> Examples:
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


def encoded(train: "Examples | LargePart", tokenizer: Tokenizer, config: ModelConfig) -> Rows:
    """The training part as training reads it."""
    if isinstance(train, Examples):
        return Dataset.of(train, tokenizer=tokenizer, config=config)
    return train.encoded(tokenizer, config)


def _texts_of(train: "Examples | LargePart") -> Iterable[str]:
    """What the tokenizer is trained on."""
    return train.texts if isinstance(train, Examples) else train.sample_texts()


def _weights(options: Options, train: Counted, labels: Sequence[str]) -> Tensor | None:
    """Of the classes, by their number of texts."""
    found = train.label_counts
    counts = torch.tensor([found[label] for label in labels], dtype=torch.float32)
    return weights_by_counts(options.class_weights, labels, counts, texts=len(train), several=train.multi_label)


def _digest(train: "Examples | LargePart", validation: Examples) -> str:
    digest = hashlib.sha256()
    if not isinstance(train, Examples):
        digest.update(train.digest.encode())
    for part in (train, validation) if isinstance(train, Examples) else (validation,):
        digest.update(json.dumps([part.texts, part.labels]).encode())
    return digest.hexdigest()
