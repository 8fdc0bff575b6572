"""From the rows of several processes to one table of step times."""

import statistics

from _timing import print_markdown, shown

_MEDIANS = ("median_ms", "ratio", "compile_s")
HEAD = ("case", "rival", "ms", "over null", "x trustml", "memory", "GFLOP", "compile s", "note")


def merged(runs: list[list[dict]]) -> list[dict]:
    """One row a rival: medians over the processes that measured it, and ratios to other rows."""
    found: dict[str, list[dict]] = {}
    for run in runs:
        for one in run:
            found.setdefault(one["rival"], []).append(one)
    rows = {rival: _merged(same) for rival, same in found.items()}
    ours = rows.get("trustml", rows.get("private step"))
    for rival, one in rows.items():
        null, plain = (rows.get(name) for name in _bases(rival, rows))
        one["over_null"] = _over(one, null, "ratio")
        one["temp_ratio"] = _over(one, plain, "temp_bytes")
        one["over_trustml"] = _over(one, ours, "median_ms")
    return list(rows.values())


def _merged(same: list[dict]) -> dict:
    row = dict(same[0])
    for field in _MEDIANS:
        values = [one[field] for one in same if one[field] is not None]
        row[field] = round(statistics.median(values), 4) if values else None
    row["processes"] = len(same)
    return row


def _bases(rival: str, rows) -> tuple[str, str]:
    """The row that shows what a ratio of one looks like, and the row without privacy."""
    if rival.startswith(("torch", "opacus")):
        return "torch null", "torch plain"
    if "null step" in rows:
        return "null step", "plain step"
    return "null", "plain step" if rival == "private step" else "plain"


def _over(row: dict, base: dict | None, field: str) -> float | None:
    if base is None or row[field] is None or not base[field]:
        return None
    return round(row[field] / base[field], 4)


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown, and what the suite comes to."""
    print_markdown(HEAD, [_cells(row) for row in rows])
    ratios = [
        row["over_null"]
        for row in rows
        if row["rival"] in ("trustml", "private step") and row["over_null"]
        if row["rival"] == "trustml" or "logical_batch" in row
    ]
    if ratios:
        mean = statistics.geometric_mean(ratios)
        print(
            f"\nOver null, geometric mean of {len(ratios)}: {mean:.3f}; highest {max(ratios):.3f}"
        )


def _cells(row: dict) -> list[str]:
    flops = None if row["flops"] is None else row["flops"] / 1e9
    note = row.get("note") or ""
    if row.get("error") is not None:
        note = f"sum differs by {row['error']:.1e}"
    return [
        row["case"],
        row["rival"],
        shown(row["median_ms"], ".1f"),
        shown(row["over_null"], ".2f"),
        shown(row["over_trustml"], ".2f"),
        shown(row["temp_ratio"], ".2f"),
        shown(flops, ".2f"),
        shown(row["compile_s"], ".1f"),
        note,
    ]
