"""Teachers: who may be one, what each says of texts, and what is refused."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nlp_app import Predictor
from nlp_app.errors import ConfigError, DataError
from tests.conftest import LABELS, Refused, write_checkpoint
from training import encoder, run
from training.console import make_console
from training.encoder import EncoderTeacher, cross_fitted, fit_head, with_bias
from training.options import Options
from training.prepare import Prepared, prepare
from training.teacher import CheckpointTeacher, ScoresFile, check_name, find_teacher

CPU = torch.device("cpu")


def nothing() -> None:
    """Nobody asked to stop."""


@pytest.fixture
def prepared(train_csv: Path) -> Prepared:
    return prepare(Options(train=train_csv, validation_share=0.2), make_console())


class StandIn:
    """An encoder that counts three words."""

    asked = 0

    def __init__(self, *_: object, **__: object) -> None:
        """As a SentenceTransformer is made."""

    def encode(self, texts: Sequence[str], **_: object) -> NDArray[np.float32]:
        StandIn.asked += len(texts)
        return np.array([[1 + text.split().count(word) for word in LABELS] for text in texts], dtype=np.float32)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn.asked = 0
    logging = SimpleNamespace(disable_progress_bar=nothing)
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=StandIn))
    monkeypatch.setattr(encoder, "hub_answers", lambda: False)
    monkeypatch.setitem(sys.modules, "transformers.utils.logging", logging)


def write_scores(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def scores_for(prepared: Prepared, share: float = 0.9) -> list[dict[str, Any]]:
    """A line for each text, with so much for its label and the rest for the one before it in the order."""
    names = prepared.config.labels
    return [
        {"text": text, "scores": {label: share, names[names.index(label) - 1]: 1 - share}}
        for part in prepared.examples
        for text, (label,) in zip(part.texts, part.label_lists, strict=True)
    ]


def test_a_checkpoint_answers_as_its_predictor_does_in_the_order_of_the_task(
    prepared: Prepared, shared_checkpoint: Path
) -> None:
    """Its labels are cold, warm, hot; those of the task are sorted."""
    teacher = find_teacher(shared_checkpoint, prepared.config, CPU)
    assert isinstance(teacher, CheckpointTeacher)
    predictor = Predictor.load(shared_checkpoint)
    assert teacher.digest == predictor.checkpoint.version
    for part, logits in zip(prepared.examples, teacher.answer(prepared, nothing), strict=True):
        for row, answer in zip(logits.softmax(dim=1), predictor.predict(part.texts, top_k=3), strict=True):
            assert {one.label: one.score for one in answer.scores} == pytest.approx(
                dict(zip(prepared.config.labels, row.tolist(), strict=True)), abs=1e-6
            )


def test_refuses_a_checkpoint_of_other_labels(refused: Refused, train_csv: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", labels=("cold", "mild", "wet"))
    message = refused(run.main, "--train", train_csv, "--output", tmp_path / "out", "--teacher", other)
    assert f"--teacher {other} lacks 'hot', 'warm' and the training texts lack its 'mild', 'wet': a teacher" in message
    several = write_checkpoint(tmp_path / "several", multi_label=True)
    message = refused(run.main, "--train", train_csv, "--output", tmp_path / "out", "--teacher", several)
    assert "gives several labels a text, but the training texts have one label a text: name another" in message
    assert not (tmp_path / "out").exists()


def test_a_file_of_scores_is_read_text_by_text(prepared: Prepared, tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.jsonl", scores_for(prepared)[::-1])
    train, validation = find_teacher(path, prepared.config, CPU).answer(prepared, nothing)
    assert (len(train), len(validation)) == (24, 6)
    for logits, data in ((train, prepared.train), (validation, prepared.validation)):
        best = logits.softmax(dim=1).max(dim=1)
        assert torch.equal(best.indices, data.targets)
        torch.testing.assert_close(best.values, torch.full((len(logits),), 0.9), atol=1e-5, rtol=0)


GOOD = '{"text": "x", "scores": {"cold": 1}}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("oops\n", 'scores.jsonl:2: the line must be {"text": …, "scores": {LABEL: PROBABILITY, …}}'),
        ("[" * 100_000, "scores.jsonl:2: the line must be"),
        ('["text"]\n', "scores.jsonl:2: the line must be"),
        ('{"text": "x"}\n', "scores.jsonl:2: the line must be"),
        ('{"text": 1, "scores": {}}\n', "scores.jsonl:2: the line must be"),
        ('{"text": "x", "scores": [0.5]}\n', "scores.jsonl:2: the line must be"),
        ('{"text": "x", "scores": {"mild": 1}}\n', "scores.jsonl:2: the label 'mild' is none of the training texts'"),
        ('{"text": "x", "scores": {"cold": 1.5}}\n', "scores.jsonl:2: every score must be a number from 0 to 1"),
        ('{"text": "x", "scores": {"cold": NaN}}\n', "scores.jsonl:2: every score must be a number from 0 to 1"),
        ('{"text": "x", "scores": {"cold": true}}\n', "scores.jsonl:2: every score must be a number from 0 to 1"),
        ('{"text": "x", "scores": {"cold": "1"}}\n', "scores.jsonl:2: every score must be a number from 0 to 1"),
        ('{"text": "x", "scores": {"cold": 0.4}}\n', "scores.jsonl:2: the scores sum to 0.4, but those of one text"),
    ],
)
def test_refuses_a_file_of_scores_that_breaks_a_rule(
    prepared: Prepared, tmp_path: Path, line: str, message: str
) -> None:
    path = write_scores(tmp_path / "scores.jsonl", [GOOD, line])
    with pytest.raises(DataError) as error:
        ScoresFile(path=path).answer(prepared, nothing)
    assert message in str(error.value)


def test_every_text_must_have_scores_and_nothing_is_left_where_one_has_none(
    refused: Refused, prepared: Prepared, train_csv: Path, tmp_path: Path
) -> None:
    lines = scores_for(prepared)
    path = write_scores(tmp_path / "scores.jsonl", [*lines[:5], *lines[7:]])
    message = refused(
        run.main, "--train", train_csv, "--validation-share", 0.2, "--output", tmp_path / "out", "--teacher", path
    )
    place = f"{train_csv}:{prepared.examples[0].lines[5]}"
    assert f"has no scores for 2 of the 30 training and validation texts, the first of which is at {place}" in message
    assert not list(tmp_path.glob("out*"))


def test_an_encoder_scores_texts_by_its_embeddings(prepared: Prepared, stand_in: None, tmp_path: Path) -> None:
    teacher = find_teacher(tmp_path / "encoder", prepared.config, CPU)
    assert isinstance(teacher, EncoderTeacher)
    train, validation = teacher.answer(prepared, nothing)
    assert StandIn.asked == 30, "each text once"
    assert train.shape == (24, 3)
    assert torch.equal(validation.argmax(dim=1), prepared.validation.targets)


def test_no_text_is_scored_by_a_head_that_was_fitted_to_it() -> None:
    """With labels that are chance, a head is right of its own texts and wrong, or as good as chance, of others."""
    torch.manual_seed(0)
    embedded = F.normalize(torch.randn(60, 80), dim=1)
    labels = torch.randint(3, (60,))
    targets = F.one_hot(labels, 3).float()
    own = with_bias(embedded) @ fit_head(embedded, targets, several=False)
    assert (own.argmax(dim=1) == labels).float().mean() > 0.9
    assert (cross_fitted(embedded, targets, several=False).argmax(dim=1) == labels).float().mean() < 0.6


def test_the_head_is_at_the_minimum_of_its_penalised_loss() -> None:
    torch.manual_seed(0)
    embedded, targets = F.normalize(torch.randn(40, 5), dim=1), F.one_hot(torch.randint(3, (40,)), 3).float()
    for several in (False, True):
        weight = fit_head(embedded, targets, several=several)
        logits = with_bias(embedded) @ weight
        answers = logits.sigmoid() if several else logits.softmax(dim=1)
        gradient = with_bias(embedded).T @ (answers - targets)
        gradient[:-1] += encoder.PENALTY * weight[:-1]
        assert gradient.abs().max() < 1e-2
        assert weight.abs().max() > 0.5


def test_refuses_an_encoder_without_its_library_or_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, stand_in: None, tmp_path: Path
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError("no such\nmodel")

    monkeypatch.setattr(StandIn, "__init__", failing)
    with pytest.raises(ConfigError, match=r"--teacher .*nowhere cannot be used \(no such model\): name a checkpoint"):
        encoder.load_encoder(tmp_path / "nowhere", CPU)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"is a sentence encoder, which needs sentence-transformers: pip install"):
        encoder.load_encoder(tmp_path / "nowhere", CPU)


@pytest.mark.parametrize(
    "name", ["", "/nowhere", "./nowhere", "../x", "a/b/c", "~/x", "scores.jsonl", "my teacher", "x/"]
)
def test_a_name_that_nothing_can_have_is_refused_before_anything_is_read(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # beside the clone a folder ../x may stand
    message = refused(run.main, "--train", tmp_path / "absent.csv", "--output", tmp_path / "out", "--teacher", name)
    known = f"--teacher {name}: there is no such file or folder: name a checkpoint, a .jsonl file of scores, or a"
    assert (known if name else "--teacher is empty: give it a value, or leave it out") in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "org/name.v2", "_x"])
def test_a_name_that_the_hub_may_have_is_tried_before_anything_is_read(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, stand_in: None, tmp_path: Path, name: str
) -> None:
    check_name(name)

    def failing(*_: object, **__: object) -> None:
        raise OSError("it is not there")

    monkeypatch.setattr(StandIn, "__init__", failing)
    message = refused(run.main, "--train", "absent.csv", "--output", tmp_path / "out", "--teacher", name)
    assert f"--teacher {name} cannot be used (it is not there): name a checkpoint" in message


@pytest.mark.parametrize(("answers", "folder"), [(True, False), (False, False), (False, True)])
def test_an_encoder_that_the_hub_cannot_give_is_looked_for_on_the_disk_alone(
    monkeypatch: pytest.MonkeyPatch, stand_in: None, tmp_path: Path, answers: bool, folder: bool
) -> None:
    """Its client would try again for a minute and more; a folder may name others that have to be fetched."""
    given: dict[str, object] = {}
    monkeypatch.setattr(StandIn, "__init__", lambda _, *__, **values: given.update(values))
    monkeypatch.setattr(encoder, "hub_answers", lambda: answers)
    encoder.load_encoder(tmp_path if folder else Path("org/name"), CPU)
    assert given["local_files_only"] is (not answers and not folder)


def test_asks_the_hub_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Session:
        def head(self, address: str, timeout: float) -> None:
            asked.append((address, timeout))
            if len(asked) == 2:
                raise OSError("no network")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(get_session=Session))
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", SimpleNamespace(ENDPOINT="https://hub"))
    assert [encoder.hub_answers(), encoder.hub_answers()] == [True, False]
    assert asked == [("https://hub", encoder.HUB_S)] * 2


def test_another_teacher_has_another_digest(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text("{}")
    before = find_teacher(folder, prepared.config, CPU).digest
    assert find_teacher(folder, prepared.config, CPU).digest == before
    (folder / "1_Pooling" / "config.json").write_text("{ }")
    assert find_teacher(folder, prepared.config, CPU).digest != before
    assert find_teacher(Path("org/name"), prepared.config, CPU).digest == "org/name"
    file = write_scores(tmp_path / "scores.jsonl", [GOOD])
    before = ScoresFile(path=file).digest
    write_scores(file, [GOOD, GOOD])
    assert ScoresFile(path=file).digest != before
