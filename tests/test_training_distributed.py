"""`torchrun … -m training.run`: several processes end with what one would, or end together."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from torch import Tensor

from nlp_app.errors import ConfigError
from nlp_app.folder import RESUME, work_folder
from tests.conftest import ROOT, Refused, command, write_csv
from training import compare, tune
from training.fit import INTERRUPTED, SELECTION
from training.follow import launch, restarted, shared_options
from training.options import Options
from training.ranks import Ranks
from training.state import STATE, RunState, StateStore

WORDS = [f"word{number}" for number in range(60)]
OF_LABEL = {"cold": WORDS[:25], "warm": WORDS[20:45], "hot": WORDS[40:]}
SMALL = (
    "--embedding-dim", 8, "--num-filters", 4, "--epochs", 4, "--batch-size", 7, "--validation-share", 0.2,
    "--learning-rate", 0.02,
)  # fmt: skip
FINDS = """if True:
    import os, signal, sys
    from nlp_app.errors import run_command
    from training import learner, run
    rank, first_try = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    take_step, steps = learner.Learner._take_step, 0
    def taking(self, *arguments):
        global steps
        steps += 1
        if rank == 1 and first_try and steps == 40:
            {}
        return take_step(self, *arguments)
    learner.Learner._take_step = taking
    run_command(run.main)
"""
"""A program in which something happens to rank 1 at its 40th step, after two evaluations."""
LIMIT_S = 900
"""Of a run that takes ten; a machine that is shared may give it a tenth of a core."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 texts of unequal length, in classes of unequal size."""
    draw = random.Random(0)
    labels = draw.choices(list(OF_LABEL), weights=(6, 3, 2), k=150)
    rows = [(" ".join(draw.choices(OF_LABEL[label], k=draw.randint(1, 12))), label) for label in labels]
    return write_csv(tmp_path_factory.mktemp("data") / "train.csv", rows)


def torchrun(
    *arguments: object, processes: int = 2, restarts: int = 0, program: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Start processes; all of them are gone when this returns."""
    started = subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
            f"--max-restarts={restarts}", *(["-m", "training.run"] if program is None else [program]),
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        out, error = started.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        started.terminate()  # it takes its processes with it, after half a minute by force
        out, error = started.communicate(timeout=LIMIT_S)
        raise AssertionError(f"the processes hung:\n{out}\n{error}") from None
    return subprocess.CompletedProcess(started.args, started.returncode, out, error)


def alone(*arguments: object) -> None:
    done = command("training.run", *arguments, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr


def write_program(folder: Path, what_happens: str) -> Path:
    program = folder / "program.py"
    program.write_text(FINDS.format(what_happens))
    return program


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    return safetensors.torch.load((checkpoint / "model.safetensors").read_bytes())


def trained(checkpoint: Path) -> dict[str, Any]:
    """What metrics.json tells of the training, less the seconds."""
    told: dict[str, Any] = json.loads((checkpoint / "metrics.json").read_bytes())["train"]
    return {name: value for name, value in told.items() if name not in ("seconds", "texts_per_s")}


def assert_like(one: Path, other: Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert (tensor.double() - second[name].double()).abs().max().item() <= 1e-5, name
    assert trained(one) == trained(other)


@pytest.fixture(scope="module")
def two(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes come to that nothing happens to: two blocks, dropout, class weights, a smaller last batch."""
    output = tmp_path_factory.mktemp("out") / "two"
    done = torchrun("--train", texts, "--output", output, *SMALL, "--num-blocks", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training and 30 validation texts") == 1, "rank 0 alone talks"
    assert "classes are skewed" in done.stdout
    assert "Warning" not in done.stderr.replace("Setting OMP_NUM_THREADS", "")
    return output


def test_two_processes_come_to_what_one_does(two: Path, texts: Path, tmp_path: Path) -> None:
    alone("--train", texts, "--output", tmp_path / "one", *SMALL, "--num-blocks", 2)
    assert_like(tmp_path / "one", two)
    assert sorted(path.name for path in two.parent.iterdir()) == ["two"]


def test_three_processes_stop_early_where_one_does(texts: Path, tmp_path: Path) -> None:
    """With batches of fewer texts than processes, a rate that follows the evaluations, and blocks computed twice."""
    arguments = (
        "--train", texts, "--validation-share", 0.28, "--embedding-dim", 8, "--num-filters", 4, "--batch-size", 53,
        "--num-blocks", 2, "--epochs", 60, "--learning-rate", 0.05, "--schedule", "plateau", "--evaluate-every", 3,
        "--patience", 4, "--gradient-checkpointing", "blocks", "--ngrams", "none",
    )  # fmt: skip
    alone(*arguments, "--output", tmp_path / "one")
    done = torchrun(*arguments, "--output", tmp_path / "three", processes=3)
    assert done.returncode == 0, done.stderr
    assert_like(tmp_path / "one", tmp_path / "three")
    assert trained(tmp_path / "three")["epochs"] < 60


def test_several_labels_a_text(texts: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in texts.read_text().splitlines()[1:]]
    both = [(text, label if number % 3 else f"{label};cold") for number, (text, label) in enumerate(rows)]
    arguments = (
        "--train", write_csv(tmp_path / "train.csv", both), "--label-separator", ";", *SMALL, "--epochs", 2,
        "--class-weights", "balanced", "--freeze", "embedding",
    )  # fmt: skip
    alone(*arguments, "--output", tmp_path / "one")
    done = torchrun(*arguments, "--output", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert_like(tmp_path / "one", tmp_path / "two")


def test_a_killed_process_ends_the_others_and_is_named(texts: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    output = tmp_path / "out"
    died = torchrun("--train", texts, "--output", output, *SMALL, "--num-blocks", 2, program=program)
    assert died.returncode != 0
    assert "error: rank 1 (process " in died.stderr
    assert "ended, so the run does" in died.stderr
    root_cause = died.stderr.partition("Root Cause")[2]
    assert "rank      : 1 (local_rank: 1)" in root_cause
    assert "Signal 9 (SIGKILL)" in root_cause
    assert not output.exists()
    assert (work_folder(output) / RESUME / STATE).is_file()


def test_torchruns_restart_goes_on_and_ends_with_the_same_weights(two: Path, texts: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    arguments = ("--train", texts, "--output", tmp_path / "out", *SMALL, "--num-blocks", 2)
    done = torchrun(*arguments, program=program, restarts=1)
    assert done.returncode == 0, done.stderr
    assert "ended, so the run does" in done.stderr
    assert done.stdout.count("selection epoch 2/4") == 1, "what was saved is not done again"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_a_request_to_stop_reaches_all_and_the_run_can_be_resumed(two: Path, texts: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path, "os.kill(os.getpid(), signal.SIGINT)")
    arguments = ("--train", texts, "--output", tmp_path / "out", *SMALL, "--num-blocks", 2)
    stopped = torchrun(*arguments, program=program)
    assert stopped.returncode == 0, stopped.stderr
    assert trained(tmp_path / "out")["stopped_because"] == INTERRUPTED
    resumed = torchrun(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_all_give_up_where_the_loss_of_one_is_no_number(texts: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path, "self.module.output.bias.data.fill_(float('nan'))")
    done = torchrun("--train", texts, "--output", tmp_path / "out", *SMALL, program=program)
    assert done.returncode == 0, done.stderr
    assert trained(tmp_path / "out")["stopped_because"] == "the loss became nan at step 40: lower --learning-rate"
    assert trained(tmp_path / "out")["evaluations"] == 2


def test_an_error_of_rank_0_is_said_once(texts: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path, "self.module.output.bias.data.fill_(float('nan'))")
    arguments = ("--train", texts, "--output", tmp_path / "out", *SMALL, "--evaluate-every", 50)
    failed = torchrun(*arguments, program=program)
    assert failed.returncode != 0
    assert failed.stderr.count("error: ") == 1, failed.stderr
    assert "error: there is no model to keep: the loss became nan at step 40" in failed.stderr


def test_the_end_of_the_time_is_rank_0s_to_say(texts: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from nlp_app.errors import run_command\nfrom training import budget, run\n"
        "asked = iter(range(1000))\n"
        "budget.Deadline.is_up = lambda *_: next(asked) > 20\n"
        "run_command(run.main)\n"
    )
    arguments = ("--train", texts, "--output", tmp_path / "out", *SMALL, "--max-seconds", 100_000)
    done = torchrun(*arguments, program=program)
    assert done.returncode == 0, done.stderr
    assert SELECTION in trained(tmp_path / "out")["cut_short"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("sys.argv[2] = 'nowhere.csv'", "error: rank 1: there is no file nowhere.csv"),
        ("sys.argv[2] = sys.argv[-1]", "error: rank 1 and rank 0 differ in data"),
        ("sys.argv += ['--seed', '3']", "error: rank 1 and rank 0 differ in seed (3 and 0)"),
    ],
)
def test_a_rank_with_other_data_is_refused_by_name(changed: str, said: str, texts: Path, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "other.csv", [("snow", "cold"), ("sun", "hot")] * 20)
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, sys\nfrom nlp_app.errors import run_command\nfrom training import run\n"
        f"if os.environ['RANK'] == '1': {changed}\n"
        "run_command(run.main)\n"
    )
    arguments = ("--train", texts, "--output", tmp_path / "out", *SMALL, "--out-of-scope", other)
    refused = torchrun(*arguments, program=program)
    assert refused.returncode != 0
    assert refused.stderr.count("error: ") == 1, refused.stderr
    assert said in refused.stderr
    assert not work_folder(tmp_path / "out").exists()


def test_what_is_wrong_for_all_is_said_once(tmp_path: Path) -> None:
    refused = torchrun("--train", tmp_path / "nowhere.csv", "--output", tmp_path / "out")
    assert refused.returncode != 0
    assert refused.stderr.count("error: ") == 1, refused.stderr
    assert "nowhere.csv" in refused.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"compile": True}, "--compile is for one process, but torchrun started 3: leave it out"),
        ({"teacher": "folder"}, "--teacher is for one process"),
        ({"micro_batch_size": 2}, "--micro-batch-size is for one process"),
        ({"gradient_checkpointing": "auto"}, "--gradient-checkpointing auto is for one process"),
        ({"device": "cuda:1"}, "--device cuda:1 is for one process"),
        ({"train": ("a.csv", "-")}, "--train -: 3 processes cannot read one standard input: name a file"),
        ({"test": ("-",)}, "--test -: 3 processes"),
        ({"batch_size": 2}, "--batch-size is 2, but each of the 3 processes needs a text of each batch"),
    ],
)
def test_options_of_a_single_process(values: dict[str, Any], said: str) -> None:
    options = Options(**values)
    assert shared_options(options, Ranks()) is options
    with pytest.raises(ConfigError, match=said):
        shared_options(options, Ranks(rank=1, size=3))


@pytest.mark.parametrize("module", [compare, tune])
def test_commands_of_a_single_process(module: Any, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "is for one process, but torchrun started 2: start it without torchrun" in refused(module.main)


def test_a_restart_goes_on_with_its_own_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(output=tmp_path / "out")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch() == ""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarted(options) == options, "nothing was saved"
    work_folder(options.output).mkdir()
    store = StateStore(work=work_folder(options.output))
    store.save(RunState(fingerprint={}, launch="another"), {})
    assert restarted(options) == options, "what another run left is no restart's"
    store.save(RunState(fingerprint={}, launch=launch()), {})
    assert restarted(options).resume
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not restarted(options).resume
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launch().endswith(f":{os.getppid()}")
