"""Installs what the peers need and builds everything. A failure is recorded with its reason, and the
comparison continues without that peer."""

import os
import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
PROJECT = BENCH.parent

# Debian package -> the peers that need it.
PACKAGES = {
    "gcc": "limit, libfcgi",
    "libc6-dev": "limit, libfcgi",
    "libfcgi-dev": "libfcgi",
    "php8.2-fpm": "php-fpm",
    "golang-go": "go",
    "uwsgi-core": "uwsgi",
    "uwsgi-plugin-python3": "uwsgi",
    "libfcgi-perl": "perl",
    "python3-venv": "flup",
    "apache2": "end to end",
    "libapache2-mod-fcgid": "end to end",
    "nginx-light": "end to end",
    "strace": "system calls",
}


class Built:
    """Where the programs are, and why some are missing."""

    def __init__(self, target):
        self.target = target
        self.release = target / "release"
        self.folder = target / "bench"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.load = self.release / "load"
        self.missing = {}  # server name -> reason


def say(text):
    print(f"bench/run: {text}", flush=True)


def everything(install):
    built = Built(target_folder())
    if install:
        install_packages()
    ours(built)
    peers(built)
    return built


def target_folder():
    answer = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )
    import json

    return Path(json.loads(answer.stdout)["target_directory"])


def installed(package):
    status = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True
    )
    return status.stdout == "installed"


def install_packages():
    missing = [package for package in PACKAGES if not installed(package)]
    if "nginx-light" in missing and shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        missing.remove("nginx-light")
    if not missing:
        return
    if os.geteuid() != 0:
        say(f"not root, so these packages are not installed: {' '.join(missing)}.")
        return
    say(f"installing {' '.join(missing)}")
    # dpkg runs this file before it starts a service; exit code 101 forbids it.
    policy = Path("/usr/sbin/policy-rc.d")
    ours_to_remove = not policy.exists()
    if ours_to_remove:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        quietly(["apt-get", "update", "-q"])
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for package in missing:  # one by one, so that a failure does not affect the others
            command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", package]
            if quietly(command, env=environment):
                say(f"{package} cannot be installed; without it: {PACKAGES[package]}.")
    finally:
        if ours_to_remove:
            policy.unlink()


def quietly(command, **more):
    """Runs a command; returns the last lines of its output if it failed, else None."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=1800, **more
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
    return " / ".join(lines[-3:])


def ours(built):
    say("building ours")
    # Each package separately, so that no feature of another one is enabled; and statically linked, as the
    # program is uploaded to a host.
    cargo = ["cargo", "rustc", "--release", "--quiet"]
    static = ["--", "-C", "target-feature=+crt-static"]
    for command in [
        [*cargo, "-p", "hello", "--bin", "hello", *static],
        [*cargo, "-p", "axum-example", "--bin", "axum", *static],
        [*cargo, "-p", "toolshed", "--bin", "toolshed", *static],
        ["cargo", "build", "--release", "--quiet", "-p", "load", "--bin", "load", "--example", "count"],
    ]:
        subprocess.run(command, cwd=PROJECT, check=True)
    shutil.copy2(built.release / "examples/count", built.folder / "count")
    for name in ["hello", "axum", "toolshed", "load"]:
        shutil.copy2(built.release / name, built.folder / name)
    built.load = built.folder / "load"


def peers(built):
    say("building the peers")
    folder, peers = built.folder, BENCH / "peers"

    def attempt(name, *commands, **more):
        for command in commands:
            if reason := quietly(command, **more):
                built.missing[name] = f"cannot be built here: {reason}"
                say(f"{name} {built.missing[name]}")
                return

    attempt("limit", ["gcc", "-O2", "-o", folder / "limit", BENCH / "limit/limit.c"])
    attempt("libfcgi", ["gcc", "-O2", "-o", folder / "libfcgi", peers / "libfcgi/hello.c", "-lfcgi"])
    attempt("go", ["go", "build", "-o", folder / "go", "hello.go"], cwd=peers / "go")
    attempt("cgi", ["gcc", "-O2", "-o", folder / "cgi", peers / "cgi/hello.c"])
    environment = dict(os.environ, CARGO_TARGET_DIR=str(built.target / "peers"))
    for name in ["tokio-fastcgi", "fastcgi-crate"]:
        command = ["cargo", "build", "--release", "--quiet"]
        attempt(name, command, cwd=peers / name, env=environment)
        program = built.target / "peers/release" / f"peer-{name}"
        if name not in built.missing:
            shutil.copy2(program, folder / name)
    python = folder / "python"
    if not (python / "lib").exists() or quietly([python / "bin/python", "-c", "import flup"]):
        attempt(
            "flup",
            ["/usr/bin/python3", "-m", "venv", python],
            [python / "bin/pip", "install", "--quiet", "flup==1.0.3"],
        )
    attempt("php-fpm", ["/usr/sbin/php-fpm8.2", "--version"])
    attempt("uwsgi", ["uwsgi", "--plugin", "python3", "--version"])
    attempt("perl", ["perl", "-MFCGI", "-e", "1"])


def versions(built):
    """Returns the versions of what was compared, as (name, text)."""

    def first_line(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            return (done.stdout or done.stderr).strip().splitlines()[0]
        except (OSError, IndexError, subprocess.TimeoutExpired):
            return "not there"

    def package(name):
        return first_line("dpkg-query", "-W", "-f", "${Package} ${Version}", name)

    def locked(name):
        text = (BENCH / "peers" / name / "Cargo.lock").read_text()
        crate = name.removesuffix("-crate")
        at = text.index(f'name = "{crate}"\n')
        version = text[at:].splitlines()[1].split('"')[1]
        return f"{crate} {version}"

    head = subprocess.run(
        ["git", "log", "-1", "--format=%h of %cd", "--date=short"],
        cwd=PROJECT, capture_output=True, text=True,
    ).stdout.strip()
    return [
        ("ours", f"commit {head}, {first_line('rustc', '--version')}"),
        ("libfcgi", package("libfcgi-dev")),
        ("php-fpm", package("php8.2-fpm")),
        ("Go", first_line("go", "version").removeprefix("go version ")),
        ("Rust crates", f"{locked('tokio-fastcgi')}, {locked('fastcgi-crate')}"),
        ("uWSGI", package("uwsgi-core")),
        ("flup", "1.0.3, " + first_line("/usr/bin/python3", "--version")),
        ("Perl", package("libfcgi-perl")),
        ("Apache", f"{package('apache2')}, {package('libapache2-mod-fcgid')}"),
        ("nginx", first_line("/usr/sbin/nginx", "-v").removeprefix("nginx version: ")),
    ]
