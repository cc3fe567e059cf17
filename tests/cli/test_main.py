"""The group: help, version, what errors look like, and what every exit status means."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hitless import __version__
from hitless.cli import explain_command, main, plan_command, run_command
from hitless.errors import HitlessError

PLAN = ("plan", "--convert", "0x40000000+2M:shared", "--vendor", "amd", "--backing", "separate")


def process(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run a command line in a process of its own."""
    command = [sys.executable, "-m", "hitless.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_help_names_every_command_and_every_status(hitless):
    """``--help`` tells all four commands, and the exit statuses."""
    shown = hitless("--help")
    assert shown.status == 0
    words = shown.out.split()
    assert {"run", "plan", "explain", "vendors", "130"} <= set(words)
    assert hitless("-h").out == shown.out


@pytest.mark.parametrize("command", ["run", "plan", "explain", "vendors"])
def test_each_command_has_help(command, hitless):
    """``hitless COMMAND --help`` says what it does and ends with 0."""
    shown = hitless(command, "--help")
    assert shown.status == 0
    assert shown.out.startswith(f"Usage: hitless {command}")


def test_version(hitless):
    """``--version`` prints name and version."""
    assert hitless("--version").out == f"hitless {__version__}\n"


def test_nothing_heavy_is_imported_for_help():
    """The group alone loads neither numpy nor rich nor the configuration."""
    code = (
        "import sys; from hitless.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'rich', 'cattrs', 'attrs', 'pluggy', 'hitless.plugin'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_nothing_heavy():
    """``hitless --help`` starts without the libraries and rooms that only subcommands need."""
    program = (
        "import sys; sys.argv = ['hitless', '--help']\n"
        "from hitless.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in ('numpy', 'rich', 'cattrs', 'hitless.plugin', 'hitless.check') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("--nothing",), ("run",), ("plan",), ("explain", "amd/v1"), ("run", "log", "--strategy", "hope")],
)
def test_wrong_usage_is_status_2(arguments, hitless):
    """What click refuses is told on standard error."""
    ended = hitless(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert "Usage: hitless" in ended.err


def raises(error: BaseException):
    """A function that raises whatever it is called with."""

    def function(*_arguments, **_options):
        raise error

    return function


def test_an_error_of_ours(hitless, monkeypatch):
    """Its text, with the command that repeats it, and its own status; nothing of it is markup."""
    error = HitlessError("it [red]broke[/red]\x1b[31m", who="amd", why="because")
    error.exit_status = 2
    monkeypatch.setattr(explain_command, "open_registry", raises(error))
    ended = hitless("explain", "amd/v1", "0x1")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == ("amd: it [red]broke[/red]\\x1b[31m\n  why  because\n  again: hitless explain amd/v1 0x1\n")


def test_a_bug_is_status_3(hitless, monkeypatch):
    """A short report: type, message, version, the command; with HITLESS_DEBUG=1 the traceback."""
    monkeypatch.setattr(plan_command, "plan_conversions", raises(ZeroDivisionError("[red]\x07")))
    ended = hitless(*PLAN)
    assert (ended.status, ended.out) == (3, "")
    assert ended.err.startswith(f"hitless {__version__}: a bug: ZeroDivisionError: [red]\\x07\n")
    assert f"again: hitless {' '.join(PLAN)}\n" in ended.err
    assert "Traceback" not in ended.err
    monkeypatch.setenv("HITLESS_DEBUG", "1")
    assert "Traceback" in hitless(*PLAN).err


def test_interrupted_is_status_130(hitless, monkeypatch, short_log):
    """An interrupt ends with 130 and one word."""
    monkeypatch.setattr(run_command, "run_log", raises(KeyboardInterrupt()))
    ended = hitless("run", short_log)
    assert (ended.status, ended.out, ended.err.strip()) == (130, "", "interrupted")


def test_a_real_interrupt():
    """SIGINT while a log is read: 130, no traceback."""
    command = [sys.executable, "-m", "hitless.cli", "run", "-", "--vendor", "amd"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        time.sleep(1.5)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err.strip() == "interrupted"


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("plain.log", "plain.log"),
        ("two words", "'two words'"),
        ("it's", "'it'\"'\"'s'"),
        ("a\x1bb\n'", r"$'a\x1bb\x0a\x27'"),
        ("\udcff", r"$'\xff'"),
        ("$(reboot)", "'$(reboot)'"),
    ],
)
def test_the_command_is_quoted_for_a_shell(argument, quoted, monkeypatch):
    """What ``again`` shows gives the same arguments back when it is pasted, and no control character."""
    monkeypatch.setattr(sys, "argv", ["hitless", "run", argument])
    shown = main_again()
    assert shown == f"hitless run {quoted}"
    told = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert told.stdout == os.fsencode(argument)


def main_again() -> str:
    """The line after ``again:``."""
    from hitless.cli.main import again  # noqa: PLC0415 - hitless.cli.main names the function, too

    return again()


@pytest.mark.parametrize("arguments", [PLAN, ("vendors",), ("run", "examples/short.log")], ids=lambda a: a[0])
def test_a_closed_pipe_is_quiet(arguments, short_log):
    """Whoever reads may stop: no message, and the status is that of the work done."""
    command = [sys.executable, "-m", "hitless.cli", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=short_log.parents[1], text=True, **pipes) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(timeout=60) == 0


def test_output_that_the_terminal_cannot_show(make_log):
    """Where standard output takes ASCII only, text is escaped instead of failing."""
    log = make_log("kvm_convert_memory start 0x0 size 0x1000 private_to_shared")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process("run", str(log), "--vendor", "amd", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_main_takes_arguments(capsys):
    """``main`` can be called with a list, as a program would."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"hitless {__version__}\n"
