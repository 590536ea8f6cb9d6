"""End to end: the same programs behind Apache mod_fcgid and behind nginx, compared with a static file
of the same web server, over HTTP/1.1 on 127.0.0.1."""

import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from .build import say
from .measure import Cell, load
from .servers import ALL, HELLO, Running

CONNECTIONS = 8

# What is requested.
ROWS = ["static", "hello", "axum", "site", "libfcgi", "perl"]
LABELS = {"static": "a static file of 14 bytes"} | {
    server.name: server.label for server in ALL if server.name in ROWS
}


def compare(built, pace):
    """Returns {web server label: {row: Cell}}."""
    found = {}
    for label, start in [
        ("Apache, mod_fcgid", Apache),
        ("nginx, a connection per request", lambda *it: Nginx(*it, keep=False)),
        ("nginx, keep-alive connections", lambda *it: Nginx(*it, keep=True)),
    ]:
        say(f"end to end: {label}")
        cells = {row: Cell() for row in ROWS}
        for _ in range(pace.rounds):
            for row in ROWS:
                cell = cells[row]
                if row in built.missing:
                    cell.reason = built.missing[row]
                if cell.reason:
                    continue
                try:
                    with start(built, row) as web:
                        sample = one_sample(built, web, row, pace)
                except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                    cell.reason = str(error)
                    say(f"{label}, {row}: {error}")
                    continue
                if sample["responses"] == 0:
                    cell.reason = "no response"
                    continue
                cell.samples.append(sample)
        base = [s["server"]["cpu_us_per_request"] for s in cells["static"].samples]
        for cell in cells.values():
            for sample in cell.samples:
                sample["ratio"] = sample["server"]["cpu_us_per_request"] / statistics.median(base)
        found[label] = cells
    return found


def one_sample(built, web, row, pace):
    site = row == "site"
    path = {"static": "/hello.txt", "site": "/healthz"}.get(row, "/")
    command = [
        str(built.load), "--http", "--to", f"tcp:127.0.0.1:{web.port}", "--path", path,
        "--expect-text", "ok" if site else HELLO, "--connections", str(CONNECTIONS),
        "--warm-up", "400", "--patience", "10", "--seconds", str(pace.seconds),
    ]
    for pid in web.pids():
        command += ["--server-pid", str(pid)]
    return load(command, pace.seconds + 60)


class Web:
    """A web server in its own folder, running in the foreground."""

    def __init__(self, built, row):
        self.built = built
        self.row = row
        self.temporary = tempfile.TemporaryDirectory(prefix="bench-web-", dir="/tmp")
        self.folder = Path(self.temporary.name)
        self.folder.chmod(0o755)
        for name in ["www", "run", "bin"]:
            (self.folder / name).mkdir()
        (self.folder / "run").chmod(0o777)
        (self.folder / "www/hello.txt").write_text(HELLO)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self.program = None

    def start(self, *command):
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=open(self.folder / "run/output", "wb"),
            stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.01)
        said = (self.folder / "run/output").read_text(errors="replace")[-300:]
        raise RuntimeError(f"the web server does not listen; it said: {said}")

    def pids(self):
        programs = [self.program.process.pid] if self.program else []
        return [self.process.pid, *programs]

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process:
            for number, patience in [(signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)]:
                try:
                    os.killpg(self.process.pid, number)
                    self.process.wait(patience)
                    break
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
        if self.program:
            self.program.__exit__()
        self.temporary.cleanup()


class Apache(Web):
    """Event MPM, as on Debian; mod_fcgid starts the program."""

    def begin(self):
        folder, row = self.folder, self.row
        modules = ["mpm_event", "authz_core", "alias", "dir", "env", "mime", "rewrite", "fcgid"]
        user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        program = folder / "bin/dispatch.fcgi"
        if row == "perl":
            from .build import BENCH

            program.write_text("#!/usr/bin/perl\n" + (BENCH / "peers/perl/hello.pl").read_text())
        elif row != "static":
            shutil.copy2(self.built.folder / {"site": "toolshed"}.get(row, row), program)
        if program.exists():
            program.chmod(0o755)
        (folder / "run/fcgid").mkdir()
        (folder / "run/fcgid").chmod(0o777)
        text = f"ServerRoot {folder}\nDefaultRuntimeDir {folder}/run\nPidFile {folder}/run/pid\n"
        text += f"Listen 127.0.0.1:{self.port}\nServerName localhost\nDocumentRoot {folder}/www\n"
        text += f"ErrorLog {folder}/run/log\nTypesConfig /etc/mime.types\n{user}"
        for module in modules:
            text += f"LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n"
        text += (
            "StartServers 1\nServerLimit 2\nThreadsPerChild 64\nMaxRequestWorkers 128\n"
            "MaxKeepAliveRequests 0\n"
            f"FcgidIPCDir {folder}/run/fcgid\nFcgidProcessTableFile {folder}/run/fcgid_shm\n"
            f"FcgidInitialEnv TOOLSHED_LOG {folder}/run/toolshed.log\n"
            f"FcgidInitialEnv HOME {folder}/run\nFcgidMinProcessesPerClass 0\n"
            f"<Directory {folder}>\nRequire all granted\nAllowOverride None\n</Directory>\n"
            f"<Directory {folder}/bin>\nOptions +ExecCGI\nSetHandler fcgid-script\n</Directory>\n"
            f"Alias /dispatch.fcgi {folder}/bin/dispatch.fcgi\n"
            "RewriteEngine on\nRewriteRule ^/(healthz)?$ /dispatch.fcgi/$1 [PT]\n"
        )
        (folder / "run/conf").write_text(text)
        self.start("/usr/sbin/apache2", "-f", str(folder / "run/conf"), "-DFOREGROUND")


class Nginx(Web):
    """One worker; the program listens on its own socket."""

    def __init__(self, built, row, *, keep):
        super().__init__(built, row)
        self.keep = keep

    def begin(self):
        folder, row = self.folder, self.row
        upstream = ""
        if row != "static":
            server = next(server for server in ALL if server.name == row)
            self.program = Running(server, self.built)
            self.program.wait_until_it_listens()
            if os.geteuid() == 0:  # the worker is another user
                self.program.folder.chmod(0o755)
                self.program.socket.chmod(0o777)
            keepalive = "keepalive 16;" if self.keep else ""
            upstream = f"upstream app {{ server unix:{self.program.socket}; {keepalive} }}\n"
        keep = "fastcgi_keep_conn on;" if self.keep else ""
        app = f"include /etc/nginx/fastcgi_params; fastcgi_pass app; {keep}" if upstream else ""
        user = "user www-data;\n" if os.geteuid() == 0 else ""
        temporary = "".join(
            f"{kind}_temp_path {folder}/run/{kind};\n"
            for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        (folder / "run/conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {folder}/run/pid;\n"
            f"error_log {folder}/run/log;\nevents {{ worker_connections 512; }}\n"
            f"http {{\naccess_log off;\n{temporary}keepalive_requests 100000000;\n{upstream}"
            f"server {{\nlisten 127.0.0.1:{self.port};\nroot {folder}/www;\n"
            f"location /hello.txt {{}}\nlocation / {{ {app} }}\n}}\n}}\n"
        )
        command = ["/usr/sbin/nginx", "-c", str(folder / "run/conf"), "-e", str(folder / "run/log")]
        self.start(*command)
