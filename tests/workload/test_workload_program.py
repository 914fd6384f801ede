"""The program of managed pods, as a process, against a real HTTP server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.processes import spawn

VIEW: dict[str, Any] = {
    "namespace": "default",
    "name": "llama",
    "state": "Running",
    "reason": "Running",
    "message": "every rank runs",
    "tokens": 12 * 192 * 8192,
    "steps": 12,
    "targetTokens": 635 * 192 * 8192,
    "tokensPerStep": 192 * 8192,
    "globalBatchSize": 192,
    "tokensPerSecondPerCard": "132.4",
    "stepTimeSeconds": "40.82",
}


class Source:
    """What the cabinets answer; bytes are sent as they are, None means no answer for a while."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | bytes | None = dict(VIEW)
        self.status = 200
        self.asked = 0


@pytest.fixture
def source() -> Iterator[tuple[Source, str]]:
    state = Source()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            if state.answer is None:
                time.sleep(30)
                return
            body = state.answer if isinstance(state.answer, bytes) else json.dumps(state.answer).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, f"http://127.0.0.1:{server.server_address[1]}/v1/workloads/default/llama"
    server.shutdown()
    server.server_close()


class Program:
    """The program, its lines read as they come."""

    def __init__(self, url: str, **environment: str) -> None:
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "SUPERNODE_WORKLOAD_URL": url,
            "SUPERNODE_WORKLOAD_POLL_SCALE": "0.02",
            **environment,
        }
        argv = [sys.executable, "-m", "supernode_workload"]
        self.process = spawn(argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern: str, times: int = 1, limit_seconds: float = 15.0) -> str:
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            found = [line for line in self.lines if re.search(pattern, line)]
            if len(found) >= times:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} was not printed {times} times: {self.lines}")

    def end(self, limit_seconds: float = 20.0) -> int:
        code = self.process.wait(limit_seconds)
        self._reader.join(2)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(2)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    made: list[Program] = []
    yield made
    for program in made:
        program.close()


def test_it_prints_what_it_holds_and_each_step_as_a_training_log_would(
    source: tuple[Source, str], programs: list[Program]
) -> None:
    state, url = source
    devices = {"ASCEND_VISIBLE_DEVICES": "0-15", "SUPERNODE_DEVICES": "Ascend910-16", "SUPERNODE_LINKS": "bus-16-0"}
    programs.append(program := Program(url, **devices))
    program.wait_for("16 devices")
    program.wait_for("SUPERNODE_LINKS=bus-16-0")
    line = program.wait_for("iteration")
    assert re.fullmatch(
        r" \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] iteration +12/ +635 \| consumed samples: +2304 \| "
        r"elapsed time per iteration \(ms\): 40820\.0 \| tokens/s/card: 132\.4 \| rank 0",
        line,
    )
    state.answer = {**VIEW, "steps": 13, "tokens": 13 * 192 * 8192}
    program.wait_for("iteration +13/")
    asked = state.asked
    while state.asked < asked + 5:
        time.sleep(0.02)
    assert len([line for line in program.lines if "iteration" in line]) == 2, "a step is printed once"


def test_it_ends_with_0_when_complete_and_not_before(source: tuple[Source, str], programs: list[Program]) -> None:
    state, url = source
    state.answer = {**VIEW, "tokens": VIEW["targetTokens"], "steps": 635}
    programs.append(program := Program(url))
    program.wait_for("iteration +635/ +635")
    asked = state.asked
    while state.asked < asked + 5:
        time.sleep(0.02)
    assert program.process.poll() is None, "all tokens are there, but nobody has said that it is complete"
    state.answer = {**state.answer, "state": "Complete"}
    assert program.end() == 0
    assert "training completed" in program.lines[-1]


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"state": 7}',
        b'{"state": "Complete!"}',
        b"[" * 5000,
        b"\xff\xfe",
        b'"Complete"',
    ],
)
def test_garbage_is_said_once_and_never_ends_it(
    source: tuple[Source, str], programs: list[Program], garbage: bytes
) -> None:
    state, url = source
    state.answer = garbage
    programs.append(program := Program(url))
    program.wait_for("progress is not available")
    while state.asked < 6:
        time.sleep(0.02)
    assert program.process.poll() is None
    assert len([line for line in program.lines if "not available" in line]) == 1
    state.answer = dict(VIEW)
    program.wait_for("available again")
    program.wait_for("iteration")


@pytest.mark.parametrize(
    "fields", [{"steps": None}, {"steps": "x", "tokens": []}, {"targetTokens": "x"}, {"stepTimeSeconds": {}}]
)
def test_fields_that_make_no_sense_are_survived(
    source: tuple[Source, str], programs: list[Program], fields: dict[str, Any]
) -> None:
    state, url = source
    state.answer = {**VIEW, **fields}
    programs.append(program := Program(url))
    while state.asked < 3:
        time.sleep(0.02)
    state.answer = {**VIEW, "state": "Complete"}
    assert program.end() == 0


def test_an_error_status_is_not_taken_for_an_answer(source: tuple[Source, str], programs: list[Program]) -> None:
    state, url = source
    state.status, state.answer = 404, {**VIEW, "state": "Complete"}
    programs.append(program := Program(url))
    program.wait_for("HTTP 404")
    assert program.process.poll() is None


def test_a_server_that_is_away_is_said_once_and_found_again(
    source: tuple[Source, str], programs: list[Program]
) -> None:
    _, url = source
    programs.append(program := Program("http://127.0.0.1:9/x"))
    program.wait_for("not available.*refused")
    programs.append(other := Program(url))
    other.wait_for("iteration")
    time.sleep(0.5)
    assert len([line for line in program.lines if "not available" in line]) == 1


def test_waiting_is_said_with_its_reason_once(source: tuple[Source, str], programs: list[Program]) -> None:
    state, url = source
    state.answer = {**VIEW, "state": "Waiting", "reason": "Incomplete", "message": "rank 3 is not running"}
    programs.append(program := Program(url))
    program.wait_for("waiting: Incomplete: rank 3 is not running")
    while state.asked < 5:
        time.sleep(0.02)
    assert len([line for line in program.lines if "waiting" in line]) == 1


def test_rank_zero_looks_at_once_and_the_others_when_all_have_started(
    source: tuple[Source, str], programs: list[Program]
) -> None:
    state, url = source
    others = [Program(url, JOB_COMPLETION_INDEX=str(n), SUPERNODE_WORKLOAD_POLL_SCALE="100") for n in (1, 47)]
    programs.extend(others)
    for program in others:
        program.wait_for("rank")
    assert state.asked == 0
    programs.append(first := Program(url, JOB_COMPLETION_INDEX="0", SUPERNODE_WORKLOAD_POLL_SCALE="100"))
    first.wait_for("iteration .* rank 0")
    assert state.asked == 1


def test_other_ranks_print_less(source: tuple[Source, str], programs: list[Program]) -> None:
    state, url = source
    programs.append(program := Program(url, JOB_COMPLETION_INDEX="7"))
    program.wait_for("iteration .* rank 7")
    for step in range(13, 18):
        state.answer = {**VIEW, "steps": step}
        asked = state.asked
        while state.asked < asked + 2:
            time.sleep(0.01)
    assert len([line for line in program.lines if "iteration" in line]) == 1


@pytest.mark.parametrize("answer", ["slow", "quick"])
def test_it_leaves_on_sigterm_with_143_whatever_it_waits_for(
    source: tuple[Source, str], programs: list[Program], answer: str
) -> None:
    state, url = source
    state.answer = None if answer == "slow" else state.answer
    # Beside this, waiting for the next question would take longer than the program is given to end.
    programs.append(program := Program(url, SUPERNODE_WORKLOAD_POLL_SCALE="100"))
    while not state.asked:
        time.sleep(0.02)
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == 143


def test_without_an_address_it_says_so_and_ends_with_2() -> None:
    argv = [sys.executable, "-m", "supernode_workload"]
    done = subprocess.run(argv, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "SUPERNODE_WORKLOAD_URL is not set" in done.stderr


@pytest.mark.parametrize("url", ["ftp://x/y", "nonsense", "http://", "http://x:port/", "http://x:99999/"])
def test_an_address_that_is_none_is_said(programs: list[Program], url: str) -> None:
    programs.append(program := Program(url))
    program.wait_for("not an http:// address")


def test_it_imports_nothing_of_ours_and_nothing_slow() -> None:
    code = "import sys, supernode_workload.__main__; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env=_path())
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert not names & {"typing", "http.client", "urllib.request", "email", "ssl", "random", "asyncio", "numpy"}
    assert not names & {"json", "socket", "re"}, "these are for the first look, which is none of the start"
    assert not {name for name in names if name.startswith(("supernode_api", "supernode_dataplane"))}


def _path() -> dict[str, str]:
    import supernode_workload

    return {"PYTHONPATH": os.path.dirname(os.path.dirname(str(supernode_workload.__file__)))}


def test_it_stays_small() -> None:
    code = (
        "import os, supernode_workload.__main__; "
        "print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))"
    )
    argv = [sys.executable, "-S", "-c", code]
    run = subprocess.run(argv, capture_output=True, text=True, check=True, env=_path())
    assert int(run.stdout) < 16 << 20
