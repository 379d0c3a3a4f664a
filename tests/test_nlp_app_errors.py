import signal
from pathlib import Path

import pytest

from nlp_app import errors
from nlp_app.errors import EXIT_CODE, INTERRUPTED_CODE, ConfigError, NlpAppError, quit_at_once, run_command
from tests.conftest import command

COMMANDS = (
    "nlp_app.predict", "serving", "training.compare", "training.evaluate", "training.quantize", "training.run",
    "training.tune",
)  # fmt: skip


def exit_code(error: BaseException | None) -> object:
    def command() -> int:
        if error is not None:
            raise error
        return 0

    with pytest.raises(SystemExit) as exit_info:
        run_command(command)
    return exit_info.value.code


def test_a_deliberate_error_is_one_sentence_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(ConfigError("x is 1, but must be 2")) == EXIT_CODE
    assert capsys.readouterr().err == "error: x is 1, but must be 2\n"


def test_ctrl_c_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(KeyboardInterrupt()) == INTERRUPTED_CODE
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_while_a_command_is_imported_shows_no_traceback(name: str, tmp_path: Path) -> None:
    slow = {"serving": "pydantic", "nlp_app.predict": "numpy"}.get(name, "torch")  # some import torch when they must
    (tmp_path / f"{slow}.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # of a test run in the background it is ignored
    try:
        ended = command(name, PYTHONPATH=str(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    expected = (0, "", "") if name == "serving" else (INTERRUPTED_CODE, "", "interrupted\n")  # as of any stop of it
    assert (ended.returncode, ended.stdout, ended.stderr) == expected


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_ctrl_c_is_as_it_was_for_the_command(monkeypatch: pytest.MonkeyPatch, handler: signal.Handlers) -> None:
    found: list[object] = []

    def look() -> int:
        found.append(signal.getsignal(signal.SIGINT))
        return 0

    before = signal.signal(signal.SIGINT, handler)
    try:
        quit_at_once()
        with pytest.raises(SystemExit):
            run_command(look)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [handler]


def test_success_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(None) == 0
    assert capsys.readouterr().err == ""


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_every_error_has_one_root_and_stands_in_the_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 6
    for kind in kinds:
        assert issubclass(kind, NlpAppError)
        assert kind.__name__ in (errors.__doc__ or "")
