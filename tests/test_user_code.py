"""Functions in files of the user's: found, run, and blamed for what they raise."""

from pathlib import Path
from typing import Any

import pytest

from onnxprune import InputError, ProofError
from onnxprune.user_code import content_of, function_of, guarded, is_function, registered

FILE = """
import beside

SIZE = 3


def twice(x):
    return 2 * x + beside.ONE


def fails(x):
    return x / 0


def ends(x):
    raise SystemExit("enough")


def _private(x):
    return x
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("ONE = 1")
    (tmp_path / "own.py").write_text(FILE)
    return tmp_path / "own.py"


def test_a_function_runs_with_what_lies_beside_it(file: Path) -> None:
    found = function_of(f"{file}:twice", "evaluate")
    assert found(2) == 5 and found.name == f"{file}:twice"


@pytest.mark.parametrize(
    ("name", "message"),
    [("fails", "ZeroDivisionError in line 12 of own.py: division by zero"),
     ("ends", "SystemExit in line 16 of own.py: enough")],
)  # fmt: skip
def test_what_it_raises_says_where(file: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        function_of(f"{file}:{name}", "evaluate")(1)
    assert str(caught.value) == f"{file}:{name}: {message}"


def test_the_line_is_the_last_one_even_in_another_file(file: Path) -> None:
    file.with_name("deeper.py").write_text("def half(x):\n    return x / 2\n")
    file.write_text("import deeper\n\n\ndef half(x):\n    return deeper.half(x)\n")
    with pytest.raises(InputError, match=r"TypeError in line 2 of deeper\.py: ") as caught:
        function_of(f"{file}:half", "evaluate")("text")
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("error", [ProofError("wrong"), KeyboardInterrupt()], ids=repr)
def test_errors_of_this_package_and_the_keyboard_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, guarded("own"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("text", "message"),
    [("own.py", "write FILE.py:FUNCTION"), ("no.py:f", "there is no file no.py"),
     ("FILE:nothing", "has no function 'nothing'. It has: twice, fails, ends"),
     ("FILE:SIZE", "has no function 'SIZE'")],
)  # fmt: skip
def test_what_is_no_function(file: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        function_of(text.replace("FILE", str(file)), "evaluate")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [("x = 1\nraise ValueError('a\\n  b')", "ValueError in line 2 of bad.py: a b"),
     ("def f(:", "SyntaxError"), ("import nowhere_to_be_found", "ModuleNotFoundError in line 1"),
     ("x = 1", "has no function 'f'. It has none.")],
)  # fmt: skip
def test_a_file_that_fails_is_refused_in_one_line(code: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(InputError) as caught:
        function_of(f"{tmp_path / 'bad.py'}:f", "calib")
    text = str(caught.value)
    assert text.startswith("calib '") and message in text and "\n" not in text


def test_texts_that_name_a_function() -> None:
    assert is_function("a/b.py:c") and not is_function("a.py") and not is_function("a:b")


def test_content_counts_and_not_its_name(file: Path) -> None:
    other = file.with_name("other.py")
    other.write_text(FILE)
    assert content_of(file) == content_of(str(other))
    assert content_of(f"{file}:twice") == content_of(f"{other}:twice")
    assert content_of(f"{file}:twice") != content_of(f"{file}:fails")
    other.write_text(FILE + "# changed")
    assert content_of(file) != content_of(other)
    assert content_of("no file") == "no file" and content_of({"a": 1}) == {"a": 1}
    assert content_of(None) is None


def test_what_users_register_counts() -> None:
    def own(group: object) -> None: ...

    space, other = dict[str, Any](), dict[str, Any]()
    exec("def prompt(group): return 1", space)
    exec("def prompt(group): return 2", other)
    ours = {"guarded": guarded}
    assert registered(ours) == [{}]
    tables = [{**ours, "mine": f} for f in (own, space["prompt"], other["prompt"])]
    found = [registered(table)[0] for table in tables]
    assert all(list(one) == ["mine"] for one in found)
    assert len({str(one) for one in found}) == 3
