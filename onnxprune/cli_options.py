"""What commands share: options, their values as settings, and the files they may write."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click
import numpy as np

from onnxprune.allocation.targets import parse_ratio, parse_shape, parse_step
from onnxprune.atomic_files import write_whole
from onnxprune.errors import InputError, OnnxpruneError
from onnxprune.groups.analysis import load
from onnxprune.ir import external_data as external
from onnxprune.ir import graph, runtime
from onnxprune.ir import save as saving
from onnxprune.ir.runtime import Device
from onnxprune.ir.stopwatch import timer_of
from onnxprune.report.parts import Fact, Part
from onnxprune.report.report import SLOWER
from onnxprune.settings import Settings, names_of
from onnxprune.temporary_files import sweep
from onnxprune.terminal.show import say, show

__all__ = [
    "calibrating",
    "custom_ops",
    "deliver",
    "destination",
    "errors",
    "evaluate",
    "exclude",
    "free",
    "html",
    "inexact",
    "input_shapes",
    "machine",
    "measuring",
    "provider",
    "refitting",
    "register",
    "rules",
    "settings",
    "several",
    "shapes",
    "warn",
    "write_page",
    "write_text",
    "writing",
]

F = TypeVar("F", bound=Callable[..., Any])


def several(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Options as one decorator."""
    return lambda function: functools.reduce(lambda f, o: o(f), reversed(options), function)


rules = click.option(
    "--rules", metavar="FILE", help="What operators of your own do (.toml): docs/extending.md."
)
custom_ops = click.option(
    "--custom-ops",
    multiple=True,
    metavar="LIBRARY",
    help="Shared library with operators that onnxruntime lacks.",
)
provider = click.option(
    "--provider",
    default="cpu",
    show_default=True,
    help="onnxruntime providers that run the model, with commas; the processor proves all cuts.",
)
input_shapes = click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    metavar="NAME:SIZES",
    help="Sample sizes of an input, such as image:1,3,224,224. Never frozen into the model.",
)
machine = several(
    custom_ops,
    provider,
    click.option("--threads", default=1, show_default=True, help="Threads for latency, 0: all."),
    click.option("--timer", metavar="NAME", help="Plug-in for times: docs/extending.md."),
    click.option("--batch", default=1, show_default=True, help="Samples per timed run."),
    input_shapes,
    click.option(
        "--seed",
        default=0,
        type=click.IntRange(0),
        show_default=True,
        help="For inputs and random scores.",
    ),
)
measuring = several(
    click.option("--data", metavar="FILE", help="Samples (.npz by input name, and labels)."),
    click.option("--no-latency", is_flag=True, help="Do not measure latency."),
    machine,
)
inexact = click.option(
    "--allow-inexact",
    is_flag=True,
    help="Also cut what changes the others: shares of a softmax, windows over channels.",
)
calibrating = several(
    click.option(
        "--calib",
        metavar="PATH",
        help="Unlabelled samples: .npz, .npy, a folder, file.py:function, or the word random.",
    ),
    click.option(
        "--calib-samples",
        default=1024,
        type=click.IntRange(1),
        show_default=True,
        help="At most so many are used.",
    ),
    click.option("--cache", metavar="FILE", help="Keep what was measured on them."),
    click.option(
        "--jobs",
        default=1,
        type=click.IntRange(1),
        show_default=True,
        help="Processes that measure at once.",
    ),
)
exclude = click.option(
    "--exclude", multiple=True, metavar="REGEX", help="Nodes or weights to leave alone."
)
evaluate = click.option(
    "--evaluate", metavar="FILE.py:FUNCTION", help="From session to score, higher is better."
)
refitting = several(
    click.option("--more", metavar="PATH", help="Further inputs, of any kind, to tune layers on."),
    click.option("--no-compensate", is_flag=True, help="Keep every kept weight bit-identical."),
    click.option("--no-distill", is_flag=True, help="Calibrate without tuning layers together."),
    click.option(
        "--distill-rounds",
        type=click.IntRange(1),
        metavar="N",
        help="Rounds over the samples that tune layers together; else what the work allows.",
    ),
)
html = click.option(
    "--html", "html_file", metavar="FILE", help="Write a page for the browser: docs/html.md."
)
writing = several(
    click.option("--plan", "plan_file", metavar="FILE", help="Write what was kept, as JSON."),
    click.option("--report", "report_file", metavar="FILE", help="Write the report, - prints it."),
    html,
    click.option("--external-data", is_flag=True, help="Write weights to OUTPUT.data."),
    click.option("--dry-run", is_flag=True, help="Write plan and report only."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
)


def errors(function: F) -> F:
    """One line on standard error and the exit code of the error.

    Numbers that are not finite are judged where they matter; numpy's warnings of them are not for
    users.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with _terminable(), np.errstate(all="ignore"):
                function(*args, **kwargs)
        except OnnxpruneError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt as error:
            number = signal.SIGTERM if isinstance(error, _TerminatedError) else signal.SIGINT
            _fail("interrupted", 128 + number)
        except (MemoryError, OSError, RuntimeError) as error:
            text = _lacking(error)
            if text is None:
                raise
            _fail(text, InputError.exit_code)

    return wrapped  # type: ignore[return-value]


def _fail(text: str, code: int) -> NoReturn:
    say(f"Error: {_shown(text)}", "bad")
    sys.exit(code)


def _lacking(error: Exception) -> str | None:
    """What the system lacks, if that is what an error is about."""
    no_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    no_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if no_thread or no_memory:
        return (
            "out of memory; nothing more was written. Free some, or ask for less of it: fewer "
            "--calib-samples, a smaller --batch or --input-shape, --no-distill, --no-latency."
        )
    if isinstance(error, OSError) and error.errno is not None and error.errno != errno.EPIPE:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}. Free space, or name other files and folders."
    return None


class _TerminatedError(KeyboardInterrupt):
    """The system asks the process to end."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as SIGINT does, so that what is temporary is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _shown(text: str) -> str:
    """A message in one line: names of a file may hold anything, and be of any length."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)
    return re.sub(r"\S{300,}", lambda word: f"{word[0][:140]}…{word[0][-60:]}", line.strip())


def settings(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Find the settings among the options of a command on a model.

    Options with the name of a setting are that setting; `MADE` says what others become.

    Raises:
        InputError: a value that cannot be, or options that contradict each other.
    """
    register(options.get("custom_ops", ()))
    if options.get("batch", 1) < 1 or options.get("threads", 0) < 0:
        raise InputError("--batch must be at least 1 and --threads at least 0")
    found = {name: options[name] for name in names_of(Settings) if name in options}
    for option, (name, made) in MADE.items():
        if option in options:
            found[name] = made(options)
    if (sizes := options.get("input_shapes")) is not None:
        found["input_shapes"] = shapes(load(model), sizes) if sizes else None
    return found


def _rounds(options: Mapping[str, Any]) -> bool | int:
    """Make the setting `distill`; InputError for rounds of what is not to be done."""
    if options["no_distill"] and options["distill_rounds"]:
        raise InputError("give --no-distill or --distill-rounds, not both")
    return not options["no_distill"] and (options["distill_rounds"] or True)


def _device(options: Mapping[str, Any]) -> Device:
    device = Device(options["provider"], options.get("threads", 1))
    device.resolve()  # so that what is wrong with it shows early
    return device


#: Options that become a setting of another name or type: which, and how.
MADE: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    "provider": ("device", _device),
    "timer": ("timer", lambda options: timer_of(options["timer"])),  # refused early
    "no_latency": ("latency", lambda options: not options["no_latency"]),
    "no_compensate": ("compensate", lambda options: not options["no_compensate"]),
    "no_distill": ("distill", _rounds),
    "no_rotate": ("rotate", lambda options: not options["no_rotate"]),
    "round_to": ("round_to", lambda options: parse_step(options["round_to"])),
    "ratios": ("layer_ratio", lambda options: dict(map(parse_ratio, options["ratios"]))),
}


def register(libraries: Iterable[str]) -> None:
    """Load operators of the user's own."""
    for library in libraries:
        runtime.custom_ops(library)


def warn(warnings: Iterable[str]) -> None:
    """What may be wrong with the input, one line each on standard error."""
    for warning in warnings:
        say(f"Warning: {_shown(warning)}", "warn")


def shapes(model: Any, texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Sizes of inputs by name."""
    names = [value.name for value in graph.graph_inputs(model)]
    return dict(parse_shape(text, names) for text in texts)


def destination(output: str, options: dict[str, Any], *inputs: str) -> Path:
    """The output's path; whatever cannot be written is refused before any work is done."""
    files = {"--plan": options["plan_file"], "--report": options["report_file"]}
    files["--cache"] = options.get("cache")
    files |= {f"--{name}": options.get(f"{name}_file") for name in ("html", "overlay")}
    written = [(output, "OUTPUT")]
    written += [(name, option) for option, name in files.items() if name and name != "-"]
    names = (*inputs, options["data"], options["rules"], options.get("calib"), options.get("more"))
    taken = free(written, {Path(name).resolve(): "the input itself" for name in names if name})
    _keeps_data(Path(output), inputs[0], taken)
    for folder in {Path(name).parent for name, _ in written} | {Path(tempfile.gettempdir())}:
        sweep(folder)
    return Path(output)


def free(written: Iterable[tuple[str, str]], taken: dict[Path, str]) -> dict[Path, str]:
    """Refuse files that cannot be written or are taken, as the mapping says; all that are now."""
    for name, what in written:
        path = Path(name)
        if path.resolve() in taken:
            raise InputError(f"{name}: is {taken[path.resolve()]}. Choose another file.")
        taken[path.resolve()] = f"{what} already"
        if path.is_dir():
            raise InputError(f"{name}: is a folder. Name the file to write.")
        if not path.parent.is_dir():
            raise InputError(f"{name}: the folder {path.parent} does not exist. Create it first.")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{name}: the folder {path.parent} is read-only. Choose another.")
    return taken


def _keeps_data(output: Path, model: str, taken: dict[Path, str]) -> None:
    """Refuse an output whose data file is one of the files that are read."""
    data = saving.data_path(output)
    if data.resolve() in taken:
        raise InputError(
            f"{output}: its data file {data} is {taken[data.resolve()]}. Choose another output."
        )
    if data.exists() and any(os.path.samefile(data, f) for f in external.data_files(load(model))):
        raise InputError(
            f"{output}: would replace {data}, where weights of {model} lie. Choose another output."
        )


class _Told(Protocol):
    def values(self) -> dict[str, Any]: ...

    def parts(self) -> Iterator[Part]: ...


class _Saved(Protocol):
    def save(self, path: Path, external_data: bool) -> list[Path]: ...


def deliver(
    result: _Saved, report: _Told, destination: Path, options: Mapping[str, Any], kind: str = ""
) -> None:
    """The model last: if anything else fails to be written, it is not replaced.

    `kind` is that of the page which --html names, where it is not that of the command.
    """
    values = report.values()
    text = json.dumps(values, indent=1) + "\n"
    write_page(values, options, kind)
    if options["report_file"] == "-":
        click.echo(text, nl=False)
    elif options["report_file"]:
        write_text(options["report_file"], text)
    files = [] if options["dry_run"] else result.save(destination, options["external_data"])
    if not options["quiet"] and options["report_file"] != "-":
        wrote = Fact("wrote", " and ".join(map(str, files)))
        show([*report.parts(), wrote if files else Fact("dry run", "no model written")])
    elif getattr(report, "slower", False):  # never in silence
        say(f"slower    {SLOWER}", "bad")


def write_page(values: dict[str, Any], options: Mapping[str, Any], kind: str = "") -> None:
    """Write the page that --html names, if it names one; see `cli_html.page_of`."""
    if options.get("html_file"):
        from onnxprune.cli_html import page_of  # what a page is made of; most runs write none

        write_text(options["html_file"], page_of(values, kind))


def write_text(name: str, text: str) -> None:
    """Write a file of text, or say why not."""
    try:
        write_whole(Path(name), text.encode())
    except OSError as error:
        raise InputError(
            f"{name}: cannot be written: {error.strerror}. Choose another file."
        ) from error
