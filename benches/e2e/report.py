"""The figures as tables, and beside the goals of the project."""

import math
import os
import platform
import random
import statistics

from shadow import SHARES

median = statistics.median


def table(title, head, rows):
    lines = [f"\n### {title}\n", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def ratios(rounds, over, under, value=lambda cell: cell[0]):
    """(median, lowest, highest) of one target's figure over another's, round by round; None if one is missing."""
    if not all(over in row and under in row for row in rounds):
        return None
    found = [value(row[over]) / max(value(row[under]), 1e-9) for row in rounds]
    return median(found), min(found), max(found)


def shown(ratio):
    return "" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f}–{ratio[2]:.2f})"


def middle(rounds, target, place=0, form="{:.0f}"):
    return form.format(median(row[target][place] for row in rounds)) if target in rounds[0] else ""


def text(bench):
    figures = bench.figures
    parts = [f"{bench.rounds} rounds of {bench.seconds} s per target and cell; "
             f"{os.cpu_count()} CPUs, Linux {platform.release()}. Ratios: median (lowest–highest) of the rounds."]
    if figures["free"]:
        parts.append(free(figures["free"]))
    if figures["pinned"]:
        parts.append(pinned(figures["pinned"]))
    if figures["storm"] or figures["memory"] or figures["bystanders"]:
        parts.append(connections(bench))
    if figures["fairness"]:
        parts.append(fairness(figures["fairness"]))
    if figures["flips"]:
        rows = []
        for flips in figures["flips"]:
            rest, moving = (median(pair[at] for pair in flips["rounds"]) for at in (0, 1))
            rows.append([f"{flips['every']} s", str(flips["count"]), f"{rest:.2f} ms", f"{moving:.2f} ms",
                         shown(flip_ratio(flips))])
        parts.append(table("Flips under load (point select, 16 threads)",
                           ["a flip every", "flips", "p99 at rest", "p99 while flipping", "ratio"], rows))
    if figures["insight"]:
        parts.append(insight(figures["insight"]))
    if figures["shadow"]:
        parts.append(shadow(figures["shadow"]))
    if figures["standby"]:
        parts.append(standby(figures["standby"]))
    parts.append(goals(bench))
    return "\n".join(part for part in parts if part) + "\n"


def free(cells):
    rows = []
    for cell in cells:
        rounds = cell["rounds"]
        p95 = [cell["p95"].get(target) for target in ("direct", "haproxy", "switchover")]
        rows.append([
            cell["workload"], str(cell["threads"]),
            *(middle(rounds, target) for target in ("direct", "haproxy", "switchover")),
            shown(ratios(rounds, "haproxy", "direct")), shown(ratios(rounds, "switchover", "direct")),
            shown(ratios(rounds, "switchover", "haproxy")), " / ".join(f"{ms:.2f}" for ms in p95 if ms is not None),
            f"{p95[2] / p95[1]:.2f}" if p95[1] and p95[2] is not None else "",
        ])
    head = ["workload", "threads", "direct q/s", "HAProxy q/s", "Switchover q/s", "HAProxy ÷ direct",
            "Switchover ÷ direct", "Switchover ÷ HAProxy", "p95 ms", "p95 ÷ HAProxy's"]
    return table("Throughput and p95, all CPUs free", head, rows)


def pinned(cells):
    rows = []
    for cell in cells:
        rounds = cell["rounds"]

        def cost(target):
            if target not in rounds[0]:
                return ""
            return f"{middle(rounds, target, 0, '{:.1f}')} ({median(row[target][1] for row in rounds) * 100:.0f} % user)"

        calls = [f"{cell['system_calls'][target]:.1f}" if target in cell["system_calls"] else ""
                 for target in ("haproxy", "switchover")]
        rows.append([cell["workload"], str(cell["threads"]), cost("haproxy"), cost("switchover"),
                     shown(ratios(rounds, "switchover", "haproxy")), *calls])
    head = ["workload", "threads", "HAProxy µs", "Switchover µs", "Switchover ÷ HAProxy", "HAProxy calls",
            "Switchover calls"]
    return table("CPU time and system calls of the proxy per query; server, proxy and load on one CPU", head, rows)


def connections(bench):
    figures, rows = bench.figures, []
    if figures["memory"]:
        cells = [f"{figures['memory'][target] / 1024:.1f} KiB" if target in figures["memory"] else ""
                 for target in ("haproxy", "switchover")]
        rows.append([f"memory per idle connection (of {bench.idle})", "", *cells, ""])
    for pool, held in figures["held"].items():
        rows.append([f"idle connections held at once, pool: {pool}", "", "", f"{held['alive']} of {held['wanted']}", ""])
    for cell in figures["storm"]:
        rounds, threads = cell["rounds"], cell["threads"]
        rows.append([f"connect, login, leave; {threads} threads: per second",
                     *(middle(rounds, target) for target in ("direct", "haproxy", "switchover")),
                     shown(ratios(rounds, "switchover", "haproxy"))])
        rows.append([f"connect, login, leave; {threads} threads: CPU µs of the process",
                     "", *(middle(rounds, target, 1) for target in ("haproxy", "switchover")),
                     shown(ratios(rounds, "switchover", "haproxy", lambda cell: cell[1]))])
    if figures["bystanders"]:
        rounds = figures["bystanders"]
        cells = [beside(rounds, target) for target in ("haproxy", "switchover")]
        rows.append([f"CPU per query beside {bench.bystanders} idle connections ÷ without", "", *cells, ""])
    return table("Connections", ["", "direct", "HAProxy", "Switchover", "Switchover ÷ HAProxy"], rows)


def insight(cells):
    """What figures of statements cost, round by round, beside what the same setting differs from itself by."""
    rows, costs, noises = [], [], []
    for cell in cells:
        rounds = cell["rounds"]
        # the two windows with figures together: a geometric mean has half of one's noise
        costs.append([math.log(math.sqrt(r["with"][0] * r["again"][0]) / r["without"][0]) for r in rounds])
        noises.append([math.log(r["again"][0] / r["with"][0]) for r in rounds])
        rows.append([cell["workload"], str(cell["threads"]), str(len(rounds)),
                     *(middle(rounds, way, 0, "{:.2f}") for way in ("with", "again", "without")),
                     interval(costs[-1:]), interval(noises[-1:])])
    rows.append(["all", "", str(sum(map(len, costs))), "", "", "", interval(costs), interval(noises)])
    head = ["workload", "threads", "rounds", "with µs", "again µs", "without µs", "with ÷ without", "again ÷ with"]
    return table("CPU time per query of the threads that serve clients, query insight switched on and off meanwhile; all on one CPU. Ratios: the median of "
                 "the rounds, and its 95 % interval (bootstrap)", head, rows)


def interval(cells, draws=2_000):
    """The median of paired differences (logarithms, by cell) as a ratio, and its 95 % interval by the bootstrap within each cell.

    The median, because what else runs on the machine meets some windows hard, and says nothing of the others.
    """
    dice = random.Random(1)
    medians = sorted(median([value for cell in cells for value in dice.choices(cell, k=len(cell))]) for _ in range(draws))
    low, high = medians[round(0.025 * draws)], medians[round(0.975 * draws) - 1]
    middle_of_all = median([value for cell in cells for value in cell])
    return f"{math.exp(middle_of_all):.3f} ({math.exp(low):.3f}–{math.exp(high):.3f})"


def shadow(cells):
    """What shadow reads cost, round by round, beside what a proxy without them differs from itself by."""
    names = ["CPU µs per query", "queries/s", "p50 µs", "p95 µs"]
    rows, sums = [], {}
    for cell in cells:
        rounds = cell["rounds"]
        for way, share in [*SHARES.items(), ("again", "none, again")]:
            # the two windows without together: a geometric mean has half of one's noise
            def plain(figures, at, way=way):
                return figures["without"][at] if way == "again" else math.sqrt(figures["without"][at] * figures["again"][at])
            logs = [[math.log(r[way][at] / plain(r, at)) for r in rounds] for at in range(len(names))]
            for at, values in enumerate(logs):
                sums.setdefault((way, share), [[] for _ in names])[at].append(values)
            found = cell["samples"][way]
            each = f", {found['seconds'] / found['compared'] * 1e6:.0f} µs each" if found.get("compared") else ""
            kept = f"{found['compared']} of {found['reads']} reads ({found['equal']} equal, {found['dropped']} dropped){each}" \
                if found.get("offered") else ""
            rows.append([cell["workload"], str(cell["threads"]), str(len(rounds)), share,
                         *(f"{interval([values])}; {middle(rounds, way, at, '{:.1f}')}" for at, values in enumerate(logs)), kept])
    for (_, share), columns in sums.items():
        rows.append(["all", "", str(sum(map(len, columns[0]))), share, *(interval(cells) for cells in columns), ""])
    head = ["workload", "threads", "rounds", "sample", *names, "compared"]
    return table("Shadow reads switched on and off in one proxy meanwhile, each ÷ without: the CPU time of the threads that serve clients, the "
                 "load's throughput, and what one client beside it waited for a row. Ratios: the median of the rounds, and its 95 % interval (bootstrap); "
                 "behind them the median itself", head, rows)


def standby(cells):
    """Groups with a standby against the one without, in the same rounds: the first of each."""
    rows = []
    for cell in cells:
        rounds = cell["rounds"]
        without, *groups = rounds[0]
        for group in groups:
            rows.append([
                cell["workload"], str(cell["threads"]), group, middle(rounds, without), middle(rounds, group),
                shown(ratios(rounds, group, without)), middle(rounds, without, 1, "{:.1f}"), middle(rounds, group, 1, "{:.1f}"),
                shown(ratios(rounds, group, without, lambda figures: figures[1]))])
    return table("A standby's cost: kept (`ack: authority`), auto (also `fallback: auto`), acked (also `ack: standby`), journaled (the "
                 "authority has no binlog), ungated (the same without the journal's gate) ÷ a group without one", [
        "workload", "threads", "group", "queries/s without", "with a standby", "ratio", "CPU µs per query without", "with a standby",
        "ratio"], rows)


def flip_ratio(flips):
    found = [moving / rest for rest, moving in flips["rounds"]]
    return median(found), min(found), max(found)


def fairness(rounds):
    rows = []
    for target, name in (("haproxy", "HAProxy"), ("switchover", "Switchover")):
        if target in rounds[0]:
            rows.append([name, *(middle(rounds, target, at, "{:.2f} ms") for at in (0, 1)), beside(rounds, target)])
    return table("Point selects beside a client that reads gigabytes, all on one CPU",
                 ["", "p99 alone", "p99 beside it", "beside ÷ alone"], rows)


def beside(rounds, target):
    if target not in rounds[0]:
        return ""
    found = [row[target][1] / row[target][0] for row in rounds]
    return shown((median(found), min(found), max(found)))


def goals(bench):
    """The figures that the project has set itself, and whether they are met."""
    figures, rows = bench.figures, []

    def goal(name, value, limit, most=True):
        met = value <= limit if most else value >= limit
        rows.append([name, f"{'≤' if most else '≥'} {limit}", f"{value:.2f}", "met" if met else "**not met**"])

    for cell in figures["pinned"]:
        ratio = ratios(cell["rounds"], "switchover", "haproxy")
        if ratio and cell["workload"] in ("point select, text", "point select, prepared", "100,000 rows"):
            goal(f"CPU ÷ HAProxy: {cell['workload']}, {cell['threads']} threads", ratio[0], 1.0)
    for cell in figures["free"]:
        ratio = ratios(cell["rounds"], "switchover", "haproxy")
        if ratio:
            goal(f"throughput ÷ HAProxy: {cell['workload']}, {cell['threads']} threads", ratio[0], 0.95, most=False)
    if "switchover" in figures["memory"]:
        goal("KiB per idle connection", figures["memory"]["switchover"] / 1024, 10)
    for pool, held in figures["held"].items():
        goal(f"idle connections held at once, pool: {pool}", held["alive"], held["wanted"], most=False)
    for cell in figures["storm"]:
        if "switchover" in cell["rounds"][0]:
            cost = median(row["switchover"][1] for row in cell["rounds"])
            goal(f"connects per second and core of the proxy, {cell['threads']} threads", 1e6 / cost, 2000, most=False)
    if figures["bystanders"] and "switchover" in figures["bystanders"][0]:
        found = [row["switchover"][1] / row["switchover"][0] for row in figures["bystanders"]]
        goal("CPU per query beside idle connections ÷ without", median(found), 1.1)
    ratio = ratios(figures["fairness"], "switchover", "haproxy", lambda cell: cell[1]) if figures["fairness"] else None
    if ratio:
        goal("p99 beside a long result ÷ HAProxy's", ratio[0], 1.2)
    for flips in figures["flips"]:
        if flips["every"] == 1:
            goal("p99 while flipping once a second ÷ at rest", flip_ratio(flips)[0], 1.1)
    return table("Goals", ["", "goal", "measured", ""], rows) if rows else ""
