"""Functions of the user's: found by file and name, and never to blame somewhere else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxprune.errors import InputError, TargetError, one_line
from onnxprune.user_code import (
    Function,
    content_of,
    function_of,
    guarded,
    is_function,
    registered,
)

CODE = """import beside

value = 3


def score(model):
    return beside.half(model)


def _helper():
    return 1


class Kind:
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A file that imports another one beside it."""
    (tmp_path / "beside.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "score.py").write_text(CODE)
    paths, modules = list(sys.path), set(sys.modules)
    yield tmp_path / "score.py"
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_function_is_called_under_the_name_that_it_was_given(file: Path) -> None:
    function = function_of(f"{file}:score", "evaluate")
    assert function.name == f"{file}:score" and function(7) == 3.5
    with pytest.raises(InputError) as error:
        function("text")
    assert str(error.value) == (
        f"{file}:score: TypeError in line 2 of beside.py: unsupported operand type(s) for /: 'str' "
        "and 'int'"
    )
    assert isinstance(error.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("feeds.py:samples", True),
        ("/a b/feeds.py:_f2", True),
        ("feeds.py", False),
        ("feeds.npz:samples", False),
        ("feeds.py:2f", False),
        ("feeds.py:f()", False),
    ],
)
def test_what_names_a_function(text: str, named: bool) -> None:
    assert is_function(text) == named


def test_what_cannot_be_found_is_said_with_what_there_is(file: Path) -> None:
    with pytest.raises(InputError, match=r"^rule 'x\.txt': write FILE\.py:FUNCTION, such as"):
        function_of("x.txt", "rule")
    with pytest.raises(InputError, match=r"^rule 'no\.py:f': there is no file no\.py$"):
        function_of("no.py:f", "rule")
    with pytest.raises(
        InputError, match=r"score\.py has no function 'value'\. It has: score, Kind$"
    ):
        function_of(f"{file}:value", "rule")
    file.write_text("value = 3\n")
    with pytest.raises(InputError, match=r"has no function 'f'\. It has none\.$"):
        function_of(f"{file}:f", "rule")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError in line 1 of score.py"),
        ("\nraise SystemExit(3)", "SystemExit in line 2 of score.py: 3"),
        ("def f(:", "SyntaxError"),
        ("raise ValueError('a\\n  b')", "ValueError in line 1 of score.py: a b"),
    ],
)
def test_a_file_that_fails_is_refused_in_one_line(file: Path, code: str, message: str) -> None:
    file.write_text(code)
    with pytest.raises(InputError) as error:
        function_of(f"{file}:f", "samples")
    text = str(error.value)
    assert text.startswith(f"samples '{file}:f': ") and message in text and "\n" not in text


def test_errors_of_this_package_and_the_keyboard_pass_through() -> None:
    for error in (TargetError("out of reach"), KeyboardInterrupt()):

        def fails(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            Function("f", fails)()
        assert caught.value is error


def test_code_around_is_named_too() -> None:
    message = r"^the data: ZeroDivisionError in line \d+ of test_user_code\.py: division by zero"
    with pytest.raises(InputError, match=message), guarded("the data"):
        _ = 1 / 0


def test_results_are_told_apart_by_what_stands_in_a_user_s_file(file: Path) -> None:
    """By its content and the function's name, not by its path; what is no file is its own name."""
    text = f"{file}:score"
    before, moved = content_of(text), file.with_name("moved.py")
    moved.write_bytes(file.read_bytes())
    assert content_of(f"{moved}:score") == before != content_of(f"{file}:_helper")
    assert content_of(file) != before and content_of(str(file)) == content_of(file)
    file.write_text(CODE + "# another line\n")
    assert content_of(text) != before
    assert content_of("no.py:f") == "no.py:f" and content_of(0.5) == 0.5


def test_only_functions_of_users_count_as_registered() -> None:
    def mine(node: object) -> object:
        return node

    ((name, (qualified, line, _)),) = registered({"Neg": one_line, "own:Op": mine})[0].items()
    assert name == "own:Op" and qualified.endswith("mine") and int(line) > 100
    assert registered({"Neg": one_line}, {}) == [{}, {}]
