"""RESULTS.md and the chart, from what was measured."""

import datetime
import os
import platform

from . import build, web
from .measure import MOST_DRIFT

# The targets, as multiples of the limit's processor time in the same run.
TARGETS = {"B": (1.8, 2.2), "C": (1.3, 1.5), "E": (1.8, 2.2), "F": (1.3, 1.5)}
# D is given as a fraction of tokio-fastcgi's processor time.
TARGET_D = (0.15, 0.2)


class Results:
    def __init__(self, built):
        self.built = built
        self.compared = {}
        self.first_responses = {}
        self.system_calls = {}
        self.cgi = []
        self.web = {}


def markdown(results, servers, scenarios):
    parts = [
        "# Results",
        "",
        "Written by `bench/run`; what the figures mean and why they are as they are:"
        " [docs/performance.md](../docs/performance.md).",
        "",
        *machine(results),
        "",
        "**How to read it.** CPU is the server's processor time per request, user and system, of its"
        " whole process tree: the steady figure. *× limit* divides it by that of the limit server"
        " measured in the same round; compare only these ratios, and only within this file. Requests"
        " per second and latencies depend on the load generator, which shares the machine."
        f" Figures are medians of the rounds; a round in which the limit drifted by more than"
        f" {MOST_DRIFT} is repeated. A server that cannot do a scenario is in the table with the"
        " reason.",
        "",
        "![CPU per request as a multiple of the limit's](results.svg)",
        "",
        *targets(results),
        *summary(results, servers, scenarios),
    ]
    for scenario in scenarios:
        parts += table(results, servers, scenario)
    parts += first_responses(results, servers)
    parts += calls(results, servers)
    parts += end_to_end(results)
    parts += cgi(results)
    return "\n".join(parts)


def machine(results):
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            model = next(line.split(":")[1].strip() for line in cpuinfo if "model name" in line)
    except (OSError, StopIteration):
        model = platform.machine()
    lines = [
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC on {model},"
        f" {os.cpu_count()} cores, Linux {platform.release()}.",
        "",
    ]
    return lines + [f"- {name}: {text}" for name, text in build.versions(results.built)]


def cell_of(results, letter, name):
    return results.compared.get(letter, {}).get(name)


def ratio(results, letter, name):
    cell = cell_of(results, letter, name)
    return cell.median("ratio") if cell and cell.samples else None


def cost(results, letter, name):
    cell = cell_of(results, letter, name)
    return cell.median("server", "cpu_us_per_request") if cell and cell.samples else None


def targets(results):
    rows = []

    def row(what, target, values, unit=""):
        shown = " / ".join("–" if value is None else f"{value:.2f}{unit}" for value in values)
        met = all(value is not None and value <= most for value, most in zip(values, target))
        wanted = " / ".join(f"≤ {most:g}{unit}" for most in target)
        rows.append(f"| {what} | {wanted} | {shown} | {'yes' if met else '**no**'} |")

    for letter, wanted in TARGETS.items():
        if letter in results.compared:
            values = [ratio(results, letter, name) for name in ("hello", "axum")]
            row(f"{letter}: CPU, × limit (hello / axum)", wanted, values)
    tokio = cost(results, "D", "tokio-fastcgi")
    if tokio:
        values = [cost(results, "D", name) for name in ("hello", "axum")]
        row("D: CPU, × tokio-fastcgi (hello / axum)", TARGET_D,
            [value and value / tokio for value in values])
    growth = [grown(results, "G", name) for name in ("hello", "axum")]
    if any(value is not None for value in growth):
        row("G: peak memory more than after the warm-up's start (hello / axum)", (2, 2), growth,
            " MiB")
    memory = cell_of(results, "B", "hello")
    if memory and memory.samples:
        row("hello's peak memory in B", (2.5,), [memory.median("server", "peak_kib") / 1024], " MiB")
    each = [idle_bytes(results, name) for name in ("hello", "axum")]
    if any(value is not None for value in each):
        row("memory of an idle keep-alive connection (hello / axum)", (1, 1), each, " KiB")
    return ["## The targets", "", "| what | target | measured | met |",
            "| --- | --- | --- | --- |", *rows, ""]


def grown(results, letter, name):
    """Returns by how many MiB the peak in a scenario exceeds the peak before it."""
    cell = cell_of(results, letter, name)
    if not cell or not cell.samples:
        return None
    return (cell.median("server", "peak_kib") - cell.median("server", "peak_before_kib")) / 1024


def idle_bytes(results, name):
    """Returns how many KiB each of the 1,000 idle connections of E takes in the process."""
    cell = cell_of(results, "E", name)
    if not cell or not cell.samples:
        return None
    before = cell.median("server", "resident_before_kib")
    return (cell.median("server", "resident_with_idle_kib") - before) / 1000


def summary(results, servers, scenarios):
    lines = ["## CPU per request as a multiple of the limit's", ""]
    lines.append("| server | " + " | ".join(scenario.letter for scenario in scenarios) + " |")
    lines.append("| --- |" + " ---: |" * len(scenarios))
    for server in servers:
        cells = []
        for scenario in scenarios:
            cell = cell_of(results, scenario.letter, server.name)
            if cell is None or not cell.samples:
                cells.append("–")
            else:
                mark = "¹" if cell.errors() else ""
                cells.append(f"{cell.median('ratio'):.2f}{mark}")
        lines.append(f"| {server.label} | " + " | ".join(cells) + " |")
    drifts = results.compared.get("drifts", {})
    drift = ["drift of the limit within a round"] + [
        f"{max(drifts.get(scenario.letter) or [0]):.2f}" for scenario in scenarios
    ]
    lines.append("| *" + drift[0] + "* | " + " | ".join(drift[1:]) + " |")
    lines += ["", "– not possible, ¹ not all requests or connections were served: the reasons are in"
              " the tables below.", ""]
    return lines


def table(results, servers, scenario):
    lines = [f"## {scenario.letter}: {scenario.title}", ""]
    lines.append("| server | CPU µs/request | × limit | requests/s | p50 µs | p99 µs | peak MiB |"
                 " remarks |")
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for server in servers:
        cell = cell_of(results, scenario.letter, server.name)
        if cell is None or not cell.samples:
            reason = (cell and cell.reason) or "not measured"
            lines.append(f"| {server.label} | – | – | – | – | – | – | {plain(reason)} |")
            continue
        lines.append(
            f"| {server.label} | {cell.median('server', 'cpu_us_per_request'):.2f}"
            f" | {cell.median('ratio'):.2f} | {cell.median('requests_per_second'):,.0f}"
            f" | {cell.median('latency_us', 'p50'):,.0f} | {cell.median('latency_us', 'p99'):,.0f}"
            f" | {cell.median('server', 'peak_kib') / 1024:.1f}"
            f" | {remarks(server, scenario, cell)} |"
        )
    return lines + [""]


def failures(cell, needs_multiplexing=False):
    """Returns what went wrong in the worst round, as phrases."""
    said = []
    if cell.reason:
        said.append(plain(cell.reason))

    def most(name):
        return max(sample["errors"][name] for sample in cell.samples)

    unserved, missing = most("connections_never_served"), most("missing_responses")
    if unserved:
        said.append(f"{unserved:,} connections never served")
    if most("idle_connections_lost"):
        said.append(f"{most('idle_connections_lost'):,} idle connections closed")
    if most("bad_responses"):
        first = next(errors["first"] for errors in cell.errors() if errors["bad_responses"])
        said.append(f"{most('bad_responses'):,} bad responses: {plain(first)}")
    if needs_multiplexing and missing:
        said.append("does not multiplex: answers one request and closes")
        return said
    if missing > unserved:
        said.append(f"{missing:,} requests never answered")
    if most("failed_connections"):
        said.append(f"{most('failed_connections'):,} connections broken by the server")
    return said


def remarks(server, scenario, cell):
    said = failures(cell, scenario.needs_multiplexing)
    if scenario.body and server.posts == "hello" and not server.bodies:
        said.append("does not look at the body")
    if scenario.letter == "E":
        before = cell.median("server", "resident_before_kib")
        each = (cell.median("server", "resident_with_idle_kib") - before) / 1000
        said.append(f"{each:.1f} KiB an idle connection")
    return "; ".join(said)


def plain(text):
    return " ".join(text.replace("|", "/").split())[:200]


def first_responses(results, servers):
    lines = ["## Spawn to first response", "",
             "From the start of the process, by a Python program, to the last byte of the response.",
             "", "| server | ms |", "| --- | ---: |"]
    for server in servers:
        found = results.first_responses.get(server.name, "not measured")
        shown = f"{found:.1f}" if isinstance(found, float) else f"– ({plain(found)})"
        lines.append(f"| {server.label} | {shown} |")
    return lines + [""]


def cgi(results):
    lines = ["## CGI, start to exit", "",
             "One request from the start of the process, by a Python program, to its end.", "",
             "| program | ms | CPU ms |", "| --- | ---: | ---: |"]
    for label, *figures in results.cgi:
        if len(figures) == 1:
            lines.append(f"| {label} | – ({plain(figures[0])}) | – |")
        else:
            lines.append(f"| {label} | " + " | ".join(f"{each:.2f}" for each in figures) + " |")
    return lines + [""]


def calls(results, servers):
    lines = ["## System calls per request", "",
             "Counted by strace at one client: on a keep-alive connection (A), and with a connection per"
             " request (C).", "", "| server | kept | which | new | which |",
             "| --- | ---: | --- | ---: | --- |"]
    for server in servers:
        counted = results.system_calls.get(server.name)
        if not counted:
            continue
        shown = []
        for letter in ("A", "C"):
            number, names = counted.get(letter, (None, []))
            most = sorted(names, key=lambda each: -each[1])
            which = ", ".join(
                name if 0.9 < each < 1.1 else f"{each:.1f} × {name}"
                for name, each in most if each >= 0.05
            )
            shown += ["–" if number is None else f"{number:.1f}", which]
        lines.append(f"| {server.label} | " + " | ".join(shown) + " |")
    return lines + [""]


def end_to_end(results):
    if not results.web:
        return []
    lines = ["## End to end", "",
             f"{web.CONNECTIONS} HTTP/1.1 clients on keep-alive connections to 127.0.0.1. CPU and memory are"
             " those of the web server and the program together. mod_fcgid starts a process for each"
             " request at once. × static: the same web server's static file.", ""]
    for label, cells in results.web.items():
        lines += [f"### {label}", "",
                  "| | CPU µs/request | × static | requests/s | p50 µs | p99 µs | processes |"
                  " peak MiB | remarks |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
        for row, cell in cells.items():
            name = web.LABELS[row]
            if not cell.samples:
                lines.append(f"| {name} | – | – | – | – | – | – | – | {plain(cell.reason or '')} |")
                continue
            said = "; ".join(failures(cell))
            lines.append(
                f"| {name} | {cell.median('server', 'cpu_us_per_request'):.1f}"
                f" | {cell.median('ratio'):.2f} | {cell.median('requests_per_second'):,.0f}"
                f" | {cell.median('latency_us', 'p50'):,.0f}"
                f" | {cell.median('latency_us', 'p99'):,.0f}"
                f" | {cell.median('server', 'processes'):.0f}"
                f" | {cell.median('server', 'peak_kib') / 1024:.0f} | {said} |"
            )
        lines.append("")
    return lines


# The chart: one panel per scenario, one bar per server, multiples of the limit on a logarithmic scale.

BAR, GAP, LABEL, PANEL, MARGIN = 13, 3, 150, 330, 24
OURS, THEIRS, TEXT, FAINT = "#b3432b", "#8a97a3", "#222222", "#999999"


def picture(results, servers, scenarios):
    import math

    shown = [scenario for scenario in scenarios if results.compared.get(scenario.letter)]
    rows = [server for server in servers if server.name != "limit"]
    most = max(
        [ratio(results, s.letter, r.name) or 1 for s in shown for r in rows] + [10]
    )
    scale = (PANEL - LABEL - 60) / math.log10(most)
    height = 34 + len(rows) * (BAR + GAP)
    columns = 3
    width = columns * (PANEL + MARGIN) + MARGIN
    lines = -(-len(shown) // columns)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{lines * (height + MARGIN) + 60}" font-family="sans-serif" font-size="10" '
        f'fill="{TEXT}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="24" font-size="14">CPU per request as a multiple of the limit '
        "server's (logarithmic; shorter is better)</text>",
    ]
    for index, scenario in enumerate(shown):
        left = MARGIN + index % columns * (PANEL + MARGIN)
        top = 48 + index // columns * (height + MARGIN)
        out.append(f'<text x="{left}" y="{top + 12}" font-size="12">{scenario.letter}: '
                   f"{escaped(scenario.title)}</text>")
        for number, server in enumerate(rows):
            y = top + 22 + number * (BAR + GAP)
            colour = OURS if server.ours else THEIRS
            label = escaped(server.label.replace("*", ""))
            out.append(f'<text x="{left + LABEL - 6}" y="{y + 10}" text-anchor="end">{label}</text>')
            value = ratio(results, scenario.letter, server.name)
            if value is None:
                out.append(f'<text x="{left + LABEL}" y="{y + 10}" fill="{FAINT}">not possible</text>')
                continue
            cell = cell_of(results, scenario.letter, server.name)
            mark = " (partly served)" if cell.errors() else ""
            length = max(1.0, scale * math.log10(max(value, 1.0)))
            out.append(f'<rect x="{left + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" '
                       f'fill="{colour}"/>')
            out.append(f'<text x="{left + LABEL + length + 4:.1f}" y="{y + 10}">{value:.2f}'
                       f"{mark}</text>")
    out.append("</svg>")
    return "\n".join(out) + "\n"


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
