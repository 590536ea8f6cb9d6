"""Which servers are compared, and how each is started.

A server is a process, possibly with children, that serves FastCGI on a unix socket: ours, passed as
descriptor 0, as mod_fcgid does, or its own at a path that we choose."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .build import BENCH

HELLO = "Hello, world!\n"


class Server:
    """The description of one server."""

    def __init__(self, name, label, command, *, path=None, posts="count", parameters=(),
                 multiplexes=False, ours=False, path_asked="/", text=HELLO, bodies=None, note=""):
        self.name = name
        self.label = label
        self.command = command  # (built, folder) -> argv; for `path` servers the socket is folder/s
        self.makes_socket = path is not None
        self.posts = posts  # how it responds to a POST: "count", "hello"; None: not supported
        self.parameters = parameters
        self.multiplexes = multiplexes
        self.ours = ours
        self.path_asked = path_asked
        self.text = text
        self.bodies = bodies  # the command to use instead in scenarios with bodies
        self.note = note


def php(built, folder):
    (folder / "fpm.conf").write_text(
        f"[global]\nerror_log = {folder}/fpm.log\ndaemonize = no\npid = {folder}/fpm.pid\n"
        f"[hello]\nlisten = {folder}/s\nlisten.backlog = 1024\nuser = {user()}\n"
        "pm = static\npm.max_children = 1\npm.max_requests = 0\n"
    )
    allow_root = ["-R"] if os.geteuid() == 0 else []
    limits = ["-d", "post_max_size=256M", "-d", "memory_limit=512M"]
    return ["/usr/sbin/php-fpm8.2", "-F", *allow_root, "-y", str(folder / "fpm.conf"), *limits]


def user():
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def uwsgi(built, folder):
    return [
        "uwsgi", "--plugin", "python3", "--fastcgi-socket", str(folder / "s"), "--processes", "1",
        "--listen", "1024", "--disable-logging", "--wsgi-file", str(BENCH / "peers/uwsgi/hello.py"),
    ]


def toolshed(built, folder):
    listen = f"unix:{folder}/s"
    return [str(built.folder / "toolshed"), "fastcgi", "--listen", listen, "--log", f"{folder}/log"]


def program(name, *arguments):
    return lambda built, folder: [str(built.folder / name), *arguments]


def flup(built, folder):
    return [str(built.folder / "python/bin/python"), str(BENCH / "peers/flup/hello.py")]


def perl(built, folder):
    return ["perl", str(BENCH / "peers/perl/hello.pl")]


PHP = (("SCRIPT_FILENAME", str(BENCH / "peers/php-fpm/hello.php")),
       ("SCRIPT_NAME", "/hello.php"), ("PATH_INFO", ""))

ALL = [
    Server("limit", "limit (C, parses nothing)", program("limit"), posts="hello", multiplexes=True),
    Server("hello", "**hello** (tower service)", program("hello"), posts="hello",
           multiplexes=True, ours=True, bodies=program("count", "service")),
    Server("axum", "**axum** (Router)", program("axum"), multiplexes=True, ours=True,
           bodies=program("count", "axum")),
    Server("site", "**the whole site**, /healthz", toolshed, path=True, posts=None,
           multiplexes=True, ours=True, path_asked="/healthz", text="ok"),
    Server("libfcgi", "libfcgi (C)", program("libfcgi")),
    Server("php-fpm", "php-fpm, 1 child", php, path=True, parameters=PHP),
    Server("go", "Go net/http/fcgi", program("go")),
    Server("tokio-fastcgi", "tokio-fastcgi (Rust)", program("tokio-fastcgi")),
    Server("fastcgi-crate", "fastcgi crate (Rust)", program("fastcgi-crate")),
    Server("uwsgi", "uWSGI (C, Python)", uwsgi, path=True),
    Server("flup", "flup (Python)", flup),
    Server("perl", "FCGI (Perl)", perl),
]


class Running:
    """A running server; stopped at the end of the `with` block."""

    def __init__(self, server, built, bodies=False):
        self.server = server
        self.temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.folder = Path(self.temporary.name)
        self.socket = self.folder / "s"
        command = server.bodies if bodies and server.bodies else server.command
        argv = command(built, self.folder)
        standard_input = subprocess.DEVNULL
        listener = None
        if not server.makes_socket:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.socket))
            listener.listen(1024)
            standard_input = listener
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            argv, stdin=standard_input, stdout=open(self.folder / "output", "wb"),
            stderr=subprocess.STDOUT, cwd=self.folder, env=environment, start_new_session=True,
        )
        if listener:
            listener.close()

    def wait_until_it_listens(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.002)
        raise RuntimeError(f"it does not listen; it said: {self.said()}")

    def said(self):
        return (self.folder / "output").read_text(errors="replace").strip()[-300:] or "nothing"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The process leads its own session, which contains nothing else.
        for number, patience in [(signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)]:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # children that outlived it
        except ProcessLookupError:
            pass
        self.process.poll()
        self.temporary.cleanup()
