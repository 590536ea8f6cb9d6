"""Scenarios, rounds, medians. One measurement at a time."""

import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import time

from .build import BENCH, say
from .servers import HELLO, Running

MIB = 1 << 20


class Scenario:
    def __init__(self, letter, title, arguments, *, warm_up, body=None, requests=None,
                 needs_multiplexing=False, patience=2.0):
        self.letter = letter
        self.title = title
        self.arguments = arguments
        self.warm_up = warm_up
        self.body = body
        self.requests = requests
        self.needs_multiplexing = needs_multiplexing
        self.patience = patience


SCENARIOS = [
    Scenario("A", "one connection, kept", ["--connections", "1"], warm_up=200),
    Scenario("B", "16 connections, kept", ["--connections", "16"], warm_up=500),
    Scenario("C", "16 at once, a connection per request",
             ["--connections", "16", "--new-connections"], warm_up=300),
    Scenario("D", "one connection, 32 requests in flight", ["--in-flight", "32"], warm_up=500,
             needs_multiplexing=True),
    Scenario("E", "16 connections kept, 1,000 idle", ["--connections", "16", "--idle", "1000"],
             warm_up=500, patience=3.0),
    Scenario("F", "posts of 1 MiB", ["--connections", "1"], warm_up=20, body=MIB),
    Scenario("G", "posts of 64 MiB", ["--connections", "1"], warm_up=1, body=64 * MIB, requests=10,
             patience=10.0),
]


class Pace:
    def __init__(self, seconds, rounds, starts):
        self.seconds = seconds
        self.rounds = rounds
        self.starts = starts


QUICK = Pace(seconds=0.4, rounds=1, starts=3)
FULL = Pace(seconds=1.2, rounds=3, starts=15)

# A larger drift of the limit server within one round means that the machine was disturbed.
MOST_DRIFT = 1.3
# How many disturbed rounds are repeated in a whole run, which bounds its length.
MOST_REPEATS = 6


class Cell:
    """One server in one scenario: medians over the rounds, or why there are none."""

    def __init__(self, reason=None):
        self.reason = reason
        self.samples = []  # JSON of load, with "ratio" and "relative_memory" added

    def median(self, *path):
        def value(sample):
            for key in path:
                sample = sample[key]
            return sample

        return statistics.median(value(sample) for sample in self.samples)

    def errors(self):
        return [sample["errors"] for sample in self.samples if any_errors(sample)]


def any_errors(sample):
    return any(count for name, count in sample["errors"].items() if name != "first")


def compare(built, servers, scenarios, pace):
    """Returns {scenario letter: {server name: Cell}}, the rounds' drifts under "drifts"."""
    compared = {scenario.letter: {} for scenario in scenarios}
    drifts = {scenario.letter: [] for scenario in scenarios}
    repeats_left = 0 if pace is QUICK else MOST_REPEATS
    for number in range(pace.rounds):
        for scenario in scenarios:
            samples, drift = one_round(built, servers, scenario, pace, number, compared)
            while drift > MOST_DRIFT and repeats_left > 0:
                repeats_left -= 1
                say(f"{scenario.letter}: the limit drifted by {drift:.2f}; the round is repeated")
                again, drift_again = one_round(built, servers, scenario, pace, number, compared)
                if drift_again < drift:
                    samples, drift = again, drift_again
            drifts[scenario.letter].append(drift)
            for name, sample in samples.items():
                compared[scenario.letter].setdefault(name, Cell()).samples.append(sample)
            say(f"round {number + 1} of {pace.rounds}, scenario {scenario.letter} done "
                f"(drift {drift:.2f})")
    compared["drifts"] = drifts
    return compared


def one_round(built, servers, scenario, pace, number, compared):
    """Measures all servers once, and the limit before and after them; returns samples and the limit's drift."""
    cells = compared[scenario.letter]
    limit = next(server for server in servers if server.name == "limit")
    others = [server for server in servers if server is not limit]
    # Another order in each round, so that no server always follows the same one.
    shift = number * 5 % len(others) if others else 0
    order = [limit, *others[shift:], *others[:shift], limit]
    samples, limits = {}, []
    for server in order:
        cell = cells.setdefault(server.name, Cell())
        if cell.reason:
            continue
        cell.reason = why_not(built, server, scenario)
        if cell.reason:
            continue
        try:
            sample = one_sample(built, server, scenario, pace)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            cell.reason = str(error)
            say(f"{scenario.letter}, {server.name}: {error}")
            continue
        if sample["responses"] == 0:
            cell.reason = f"no response ({sample['errors']['first'] or 'waits forever'})"
            continue
        if server is limit:
            limits.append(sample)
        samples[server.name] = sample
    costs = [sample["server"]["cpu_us_per_request"] for sample in limits]
    base = statistics.mean(costs)
    peak = max(sample["server"]["peak_kib"] for sample in limits)
    for sample in samples.values():
        sample["ratio"] = sample["server"]["cpu_us_per_request"] / base
        sample["memory_over_limit_kib"] = sample["server"]["peak_kib"] - peak
    return samples, max(costs) / min(costs)


def why_not(built, server, scenario):
    if server.name in built.missing:
        return built.missing[server.name]
    if scenario.body and server.posts is None:
        return "has no page that takes any body"
    return None


def one_sample(built, server, scenario, pace):
    bodies = scenario.body is not None
    with Running(server, built, bodies) as running:
        running.wait_until_it_listens()
        command = [
            str(built.load), "--to", f"unix:{running.socket}", "--path", server.path_asked,
            "--server-pid", str(running.process.pid), "--warm-up", str(scenario.warm_up),
            "--patience", str(scenario.patience), *scenario.arguments,
        ]
        for name, value in server.parameters:
            command += ["--param", f"{name}={value}"]
        # A server that got its socket may not be running yet: its memory is to be that of a server at work.
        hello = [str(built.load), "--to", f"unix:{running.socket}", "--path", server.path_asked]
        for name, value in server.parameters:
            hello += ["--param", f"{name}={value}"]
        load([*hello, "--requests", "20", "--patience", "5"], 60)
        counts = bodies and (server.bodies or server.posts == "count")
        command += ["--expect-text", f"{scenario.body}\n" if counts else server.text]
        seconds = pace.seconds
        if bodies:
            command += ["--body", str(scenario.body)]
        if scenario.requests:
            # Few and large requests: the time is only a limit.
            command += ["--requests", str(scenario.requests if pace is FULL else 3)]
            seconds = 20.0
        command += ["--seconds", str(seconds)]
        return load(command, seconds + 4 * scenario.patience + 20)


def load(command, timeout):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr.strip().removeprefix("load: "))
    return json.loads(done.stdout)


# Spawn to first response.


def first_responses(built, servers, pace):
    """Returns {server name: median milliseconds or a reason}."""
    say("spawn to first response")
    found = {}
    for server in servers:
        if server.name in built.missing:
            found[server.name] = built.missing[server.name]
            continue
        try:
            found[server.name] = statistics.median(
                first_response(built, server) for _ in range(pace.starts)
            )
        except (RuntimeError, OSError) as error:
            found[server.name] = str(error)
    return found


def first_response(built, server):
    with Running(server, built) as running:
        deadline = running.started + 10
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(10)
                    connection.connect(str(running.socket))
                    connection.sendall(request(server))
                    # The response ends with END_REQUEST and the server's close.
                    response = b""
                    while piece := connection.recv(65536):
                        response += piece
                        if response.endswith(END):
                            break
                took = time.perf_counter() - running.started
                if server.text.encode() not in response:
                    raise RuntimeError(f"the first response was {response[:200]!r}")
                return took * 1000
            except (FileNotFoundError, ConnectionError):
                if time.perf_counter() > deadline or running.process.poll() is not None:
                    raise RuntimeError(f"it does not listen; it said: {running.said()}") from None
                time.sleep(0.0002)


END = struct.pack(">BBHHBB", 1, 3, 1, 8, 0, 0) + bytes(8)


def request(server):
    """Encodes a small GET as FastCGI records."""
    parameters = {
        "REQUEST_METHOD": "GET", "REQUEST_URI": server.path_asked, "SCRIPT_NAME": "/dispatch.fcgi",
        "PATH_INFO": server.path_asked, "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": "127.0.0.1",
        "GATEWAY_INTERFACE": "CGI/1.1", "CONTENT_LENGTH": "", **dict(server.parameters),
    }
    block = b"".join(
        bytes([len(name)]) + struct.pack(">I", len(value) | 1 << 31) + name.encode() + value.encode()
        for name, value in parameters.items()
    )

    def record(kind, content):
        return struct.pack(">BBHHBB", 1, kind, 1, len(content), 0, 0) + content

    begin = record(1, struct.pack(">HB5x", 1, 0))
    return begin + record(4, block) + record(4, b"") + record(5, b"")


# CGI, start to exit.


def cgi(built, pace):
    """Returns [(label, median wall ms, median CPU ms, or a reason)]."""
    say("CGI, start to exit")
    folder = built.folder
    rows = []
    for label, command, text in [
        ("C", [folder / "cgi"], HELLO),
        ("**ours, a tower service**", [folder / "count", "cgi"], HELLO),
        ("**ours, the whole site**, /healthz", [folder / "toolshed"], "ok"),
        ("the same, through the launcher", [BENCH.parent / "dispatch.fcgi"], "ok"),
        ("Python", ["/usr/bin/python3", BENCH / "peers/cgi/hello.py"], HELLO),
    ]:
        try:
            samples = [one_cgi(built, command, text) for _ in range(2 * pace.starts)]
            rows.append((label, *map(statistics.median, zip(*samples))))
        except (RuntimeError, OSError) as error:
            rows.append((label, str(error)))
    return rows


def one_cgi(built, command, text):
    environment = {
        "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "REQUEST_URI": "/healthz",
        "SCRIPT_NAME": "", "PATH_INFO": "/healthz", "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_PORT": "80", "REMOTE_ADDR": "127.0.0.1",
        "SERVER_SOFTWARE": "bench", "PATH": "/usr/bin:/bin", "HOME": str(built.folder),
        "TOOLSHED_LOG": "/dev/null", "TOOLSHED_HOME": str(built.folder),
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=environment,
    )
    response = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode != 0 or not response.endswith(text.encode()):
        raise RuntimeError(f"no CGI yet: it ended with {process.returncode} and {response[:60]!r}")
    return took * 1000, (used.ru_utime + used.ru_stime) * 1000


# System calls.

CALLS = [("A", ["--connections", "1"]), ("C", ["--connections", "1", "--new-connections"])]
CALLS_REQUESTS = 300


def system_calls(built, servers):
    """Returns {server name: {letter: (calls per request, [(name, calls per request)])}}."""
    say("counting system calls")
    found = {}
    for server in servers:
        if server.name in built.missing:
            continue
        found[server.name] = {}
        for letter, arguments in CALLS:
            try:
                found[server.name][letter] = count_calls(built, server, arguments)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                say(f"system calls of {server.name}: {error}")
    return found


def count_calls(built, server, arguments):
    with Running(server, built) as running:
        running.wait_until_it_listens()
        command = [str(built.load), "--to", f"unix:{running.socket}", "--path", server.path_asked]
        for name, value in server.parameters:
            command += ["--param", f"{name}={value}"]
        command += ["--expect-text", server.text, *arguments]
        load([*command, "--requests", "20"], 60)
        log = running.folder / "strace"
        strace = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,name", "-o", str(log),
             *[part for pid in tree(running.process.pid) for part in ("-p", str(pid))]],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        try:
            load([*command, "--requests", str(CALLS_REQUESTS)], 120)
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(10)
        rows = re.findall(r"^\s*(\d+)\s+([a-z_0-9]+)$", log.read_text(), re.MULTILINE)
        per_request = [
            (name, int(calls) / CALLS_REQUESTS) for calls, name in rows if name != "total"
        ]
        return sum(calls for _, calls in per_request), per_request


def tree(pid):
    found, left = [], [pid]
    while left:
        each = left.pop()
        found.append(each)
        try:
            with open(f"/proc/{each}/task/{each}/children") as children:
                left += map(int, children.read().split())
        except OSError:
            pass
    return found
