"""Functions in files of the user's: found, run, and blamed for what they raise."""

from pathlib import Path

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


def test_a_function_runs_with_what_lies_beside_it(file: Path):
    found = function_of(f"{file}:twice", "evaluate")
    assert found(2) == 5 and found.name == f"{file}:twice"


@pytest.mark.parametrize(
    ("name", "message"),
    [("fails", "ZeroDivisionError in line 12 of own.py: division by zero"),
     ("ends", "SystemExit in line 16 of own.py: enough")],
)  # fmt: skip
def test_what_it_raises_says_where(file: Path, name: str, message: str):
    with pytest.raises(InputError) as caught:
        function_of(f"{file}:{name}", "evaluate")(1)
    assert str(caught.value) == f"{file}:{name}: {message}"


def test_errors_of_this_package_pass():
    with pytest.raises(ProofError, match=r"^wrong$"), guarded("own"):
        raise ProofError("wrong")


@pytest.mark.parametrize(
    ("text", "message"),
    [("own.py", "write FILE.py:FUNCTION"), ("no.py:f", "there is no file no.py"),
     ("FILE:nothing", "has no function 'nothing'. It has: twice, fails, ends"),
     ("FILE:SIZE", "has no function 'SIZE'")],
)  # fmt: skip
def test_what_is_no_function(file: Path, text: str, message: str):
    with pytest.raises(InputError) as caught:
        function_of(text.replace("FILE", str(file)), "evaluate")
    assert message in str(caught.value)


def test_a_file_that_fails(tmp_path: Path):
    (tmp_path / "bad.py").write_text("x = 1\nraise ValueError('no')")
    with pytest.raises(InputError, match=r"ValueError in line 2 of bad.py: no"):
        function_of(f"{tmp_path / 'bad.py'}:f", "calib")


def test_texts_that_name_a_function():
    assert is_function("a/b.py:c") and not is_function("a.py") and not is_function("a:b")


def test_content_counts_and_not_its_name(file: Path):
    other = file.with_name("other.py")
    other.write_text(FILE)
    assert content_of(file) == content_of(str(other))
    assert content_of(f"{file}:twice") == content_of(f"{other}:twice")
    assert content_of(f"{file}:twice") != content_of(f"{file}:fails")
    other.write_text(FILE + "# changed")
    assert content_of(file) != content_of(other)
    assert content_of("no file") == "no file" and content_of({"a": 1}) == {"a": 1}
    assert content_of(None) is None


def test_what_users_register_counts():
    def own(group: object) -> None: ...

    exec("def prompt(group): return 1", space := {})
    exec("def prompt(group): return 2", other := {})
    ours = {"guarded": guarded}
    assert registered(ours) == [{}]
    tables = [{**ours, "mine": f} for f in (own, space["prompt"], other["prompt"])]
    found = [registered(table)[0] for table in tables]
    assert all(list(one) == ["mine"] for one in found)
    assert len({str(one) for one in found}) == 3
