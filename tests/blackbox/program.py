"""A Python child that does, step by step, what a shell cannot: threads, descriptors, system calls."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from tests.blackbox.clu import end_group

_CHILD = """
import errno, json, os, select, signal, socket, sys, threading, time
_KNOWN_BY = {errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}

def own(name):
    "A descriptor that owns locks by itself."
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

def say(fd, line):
    os.write(fd, line.encode() + b"\\n")

def ask(line, name):
    "What `echo line > name` does: the process owns the lock."
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        say(fd, line)
    finally:
        os.close(fd)

def turn_into(uid):
    "Become another user; names relative to the working directory still work."
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)

def name_of(error):
    return _KNOWN_BY.get(error.errno) or errno.errorcode[error.errno]

def become(source):
    "Run a step; its value, or the name of the error."
    try:
        try:
            code = compile(source, "step", "eval")
        except SyntaxError:
            exec(source, globals())
            return None
        return eval(code, globals())
    except OSError as error:
        return name_of(error)

def aside(function, *arguments):
    "Call in a thread; what this returns waits for the end and tells it."
    def run():
        try:
            ended.append(function(*arguments))
        except OSError as error:
            ended.append(name_of(error))
    ended = []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    def outcome():
        thread.join()
        return ended[0]
    return outcome

signal.signal(signal.SIGINT, signal.SIG_DFL)
while True:
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    print(json.dumps(become(json.loads(line)), default=repr), flush=True)
"""


class Program:
    """A Python child that lives on and runs the steps it is told."""

    def __init__(self, cwd: Path, *before: str, **options: object) -> None:
        self.process = subprocess.Popen(  # type: ignore[call-overload]
            [*before, sys.executable, "-S", "-E", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            text=True,
            process_group=0,
            **options,
        )

    @property
    def pid(self) -> int:
        """The child's process id (of what was started: `before` may have put another between)."""
        return int(self.process.pid)

    def run(self, step: str) -> object:
        """Run a step: the expression's value, None for a statement, or the name of its OSError."""
        self.begin(step)
        return self.hear()

    def begin(self, step: str) -> None:
        """Start a step that may wait; `hear` gets its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(step) + "\n")
        self.process.stdin.flush()

    def hear(self) -> object:
        """What became of the step that was begun."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)

    def ask(self, line: str, name: str) -> object:
        """What `echo line > name` does: None, or the name of the error."""
        return self.run(f"ask({line!r}, {name!r})")

    def begin_to_ask(self, line: str, name: str) -> None:
        """`ask` that may wait; `hear` gets its end."""
        self.begin(f"ask({line!r}, {name!r})")

    def close(self) -> None:
        """End the child with all it holds, and its own children."""
        end_group(self.process)
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                with contextlib.suppress(BrokenPipeError):
                    end.close()
