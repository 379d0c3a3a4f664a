import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nlp_app.errors import DataError
from tests.conftest import TEXTS, Refused, write_csv
from training import pretrain, run
from training.console import make_console
from training.options import Options
from training.prepare import Prepared, prepare
from training.pretrain import Guesser, read_unlabelled

MORE = [f"{text} and the storm is {word}" for text in TEXTS for word in ("near", "far", "over")]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "more.csv", [(text,) for text in MORE], header=("text",))


def prepared_for(train: Path, **values: Any) -> Prepared:
    small: dict[str, Any] = {"num_filters": 4, "embedding_dim": 8, "ngrams": "none"}
    return prepare(Options(train=train, **(small | values)), make_console())


@pytest.mark.parametrize("name", ["more.txt", "more.csv", "more.jsonl", "more.tsv.gz"])
def test_reads_texts_of_every_format(tmp_path: Path, name: str) -> None:
    content = {"txt": "snow\n\nsun\n", "csv": "text\nsnow\n \nsun\n", "gz": "text\nsnow\n\nsun\n"}
    content["jsonl"] = '{"text": "snow"}\n{"text": ""}\n{"text": "sun"}\n'
    data = content[name.split(".")[-1]].encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read_unlabelled(tmp_path / name, Options()).texts == ["snow", "sun"]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("m.csv", "text,label\nsnow,cold\n", {}, r"m.csv has a column 'label', but --unlabelled takes texts without"),
        ("m.jsonl", '{"text": "a", "labels": []}\n', {}, r"'labels', but .*: drop the column, or give the file as --"),
        ("m.csv", "text,kind\nsnow,cold\n", {"label_column": "kind"}, r"m.csv has a column 'kind'"),
        ("m.csv", "text,label\nsnow,cold\n", {"label_column": "kind"}, r"m.csv has a column 'label'"),
        ("m.jsonl", '{"text": "a"}\n{"text": "b", "labels": ["c"]}\n', {}, r"m.jsonl has a column 'labels'"),
        ("m.csv", "title\nsnow\n", {}, r"m.csv has no column 'text'"),
        ("m.txt", "\nsnow\n \n", {}, r"m.txt holds 1 text not blank: --unlabelled needs 2 or more"),
    ],
)
def test_refuses_what_is_no_file_of_texts(
    tmp_path: Path, name: str, content: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_unlabelled(tmp_path / name, Options(**options))


def test_a_file_that_is_not_there_is_said_before_anything_is_written(
    refused: Refused, train_csv: Path, tmp_path: Path
) -> None:
    arguments = ("--train", train_csv, "--output", tmp_path / "out", "--unlabelled", tmp_path / "nowhere.csv")
    assert "there is no file" in refused(run.main, *arguments)
    assert not (tmp_path / "out").exists()


def test_texts_without_a_word_that_is_known_teach_nothing(
    train_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = write_csv(tmp_path / "strange.csv", [("xyzzy",), ("plugh",)], header=("text",))
    prepared, plain = prepared_for(train_csv, unlabelled=strange), prepared_for(train_csv)
    assert prepared.start.told["unlabelled"] == {"texts": 2, "tokens": 2, "steps": 0, "loss": None}
    states = [one.new_module(0).state_dict() for one in (prepared, plain)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    assert "no text has a word of the vocabulary, so nothing was learnt from them" in capsys.readouterr().out


def test_training_starts_with_what_was_learnt(train_csv: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss falls, and embedding and blocks are those at its end, whichever seed draws the rest."""
    monkeypatch.setattr(pretrain, "BATCH_SIZE", 6)
    monkeypatch.setattr(pretrain, "RATE", 0.02)
    prepared = prepared_for(train_csv, unlabelled=texts, num_filters=16)
    first, last = prepared.start.told["unlabelled"]["loss"]
    assert last < first - 0.3
    states = [prepared.new_module(seed).state_dict() for seed in (0, 1)]
    learnt = {name for name in states[0] if name.startswith(("embedding.", "blocks."))}
    assert learnt == set(prepared.start.tensors)
    for name in learnt:
        assert torch.equal(states[0][name], prepared.start.tensors[name])
        assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0]["output.weight"], states[1]["output.weight"])
    assert states[0]["embedding.weight"][0].count_nonzero() == 0, "padding stays zero"
    assert states[0]["blocks.0.norm.0.num_batches_tracked"] == prepared.start.told["unlabelled"]["steps"]


def test_the_same_again_and_another_with_other_texts(train_csv: Path, texts: Path, tmp_path: Path) -> None:
    first, again = (prepared_for(train_csv, unlabelled=texts).start for _ in range(2))
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    assert first.digests == again.digests
    other = write_csv(tmp_path / "other.csv", [(text,) for text in MORE[1:]], header=("text",))
    assert prepared_for(train_csv, unlabelled=other).start.digests != first.digests


def test_the_vocabulary_has_the_words_of_both(train_csv: Path, texts: Path) -> None:
    plain, both = prepared_for(train_csv), prepared_for(train_csv, unlabelled=texts)
    assert plain.tokenizer.encode(["storm"], max_length=1)[0].input_ids[0] == 1
    assert both.tokenizer.encode(["storm"], max_length=1)[0].input_ids[0] > 1


def test_a_hidden_word_is_not_seen(train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all words hidden, what is guessed depends on the places alone, not on the words."""
    monkeypatch.setattr(pretrain, "HIDDEN", 1.0)
    module = prepared_for(train_csv).new_module(0)
    seen = []
    module.embedding.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    counts = torch.ones(pretrain.FIRST + pretrain.WORDS, dtype=torch.int64)
    guesser = Guesser(module=module, counts=counts).train()
    loss = guesser(torch.tensor([[5, 6, 7, 0], [4, 3, 2, 5]]))
    assert set(seen[0].flatten().tolist()) == {0, 1}
    assert torch.isfinite(loss)


def test_nothing_hidden_is_no_loss(train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "HIDDEN", 0.0)
    guesser = Guesser(module=prepared_for(train_csv).new_module(0), counts=torch.ones(pretrain.FIRST + pretrain.WORDS))
    loss = guesser(torch.tensor([[5, 6, 7, 0], [4, 3, 2, 5]]))
    loss.backward()
    assert loss.item() == 0


def test_the_number_of_steps_is_bounded(train_csv: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "BATCH_SIZE", 3)
    assert prepared_for(train_csv, unlabelled=texts).start.told["unlabelled"]["steps"] == 6 * pretrain.EPOCHS
    monkeypatch.setattr(pretrain, "TOKENS", 1)
    assert prepared_for(train_csv, unlabelled=texts).start.told["unlabelled"]["steps"] == 1


def test_vectors_and_unlabelled_texts_together(train_csv: Path, texts: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "v.txt"
    vectors.write_text("snow 1 2 3\n")
    prepared = prepared_for(train_csv, unlabelled=texts, vectors=str(vectors), embedding_dim=None)
    assert prepared.start.tensors["embedding.weight"].shape[1] == 3
    assert all(prepared.start.digests.values())


def test_trains_and_tells(monkeypatch: pytest.MonkeyPatch, train_csv: Path, texts: Path, tmp_path: Path) -> None:
    arguments = [
        "--train",
        train_csv,
        "--unlabelled",
        texts,
        "--output",
        tmp_path / "out",
        "--epochs",
        1,
        "--ngrams",
        "none",
    ]
    monkeypatch.setattr(sys, "argv", ["run", *map(str, arguments)])
    assert run.main() == 0
    told = json.loads((tmp_path / "out" / "metrics.json").read_bytes())["start"]["unlabelled"]
    assert told["texts"] == len(MORE)
    assert set(told) == {"texts", "tokens", "steps", "loss"}
    options = json.loads((tmp_path / "out" / "config.json").read_bytes())["trained"]["options"]
    assert options["unlabelled"] == "more.csv"
