import pytest

from nlp_app import errors
from nlp_app.errors import EXIT_CODE, INTERRUPTED_CODE, ConfigError, NlpAppError, run_command


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
