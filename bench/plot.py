"""bench/plot.py: the rows of a stored record as a picture, SVG written by hand.

One line for each row: the median as a dot, the smallest and largest round as a bar, the must as
a solid tick and the aim as a dashed one. The axis is logarithmic, so half and double are equally
far from 1. Amounts have no ratio; those with a must are drawn as share of it, in a part of their
own. It brings its own background, because it is also shown on pages that are dark.
"""

import html
import math

import report
import results

WIDTH, MARGIN = 960, 16
NAME_WIDTH, LABEL_WIDTH, VALUE_WIDTH = 124, 362, 106
ROW, HEAD, GROUP = 20, 46, 10
AXIS_LEFT, AXIS_RIGHT = MARGIN + NAME_WIDTH + LABEL_WIDTH, WIDTH - MARGIN - VALUE_WIDTH

# Those that are rounder come first, because they are placed first.
TICKS = [m * 10.0**e for m in (1, 2, 5, 1.5, 3, 7) for e in range(-3, 5)]

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.page { fill: #ffffff; stroke: #d0d7de }
.title { font-weight: 600; font-size: 14px }
.small { font-size: 11px; fill: #59636e }
.grid { stroke: #d8dee4 }
.one { stroke: #8c959f; stroke-width: 1.5 }
.limit { stroke: #1f2328; stroke-width: 2 }
.dashed { stroke-dasharray: 3 2 }
.aim { stroke: #1a7f37; fill: #1a7f37 }
.must { stroke: #0969da; fill: #0969da }
.MISSED { stroke: #cf222e; fill: #cf222e }
.none { stroke: #6e7781; fill: #6e7781 }
.bar { stroke-width: 4; stroke-opacity: 0.45; stroke-linecap: round }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117; stroke: #3d444d }
  .small { fill: #9198a1 }
  .grid { stroke: #262c36 }
  .one { stroke: #656c76 }
  .limit { stroke: #e6edf3 }
  .aim { stroke: #3fb950; fill: #3fb950 }
  .must { stroke: #4493f8; fill: #4493f8 }
  .MISSED { stroke: #f85149; fill: #f85149 }
  .none { stroke: #9198a1; fill: #9198a1 }
}
"""


class Line:
    """A row as it is drawn: all numbers on the axis, the value as it is written."""

    def __init__(self, scenario, row):
        self.scenario = scenario
        self.label = row["label"]
        judged = row["verdict"] not in (None, results.NO_FIGURE)
        self.verdict = row["verdict"] if judged else "none"
        is_ratio = row["unit"] == "ratio"
        scale = 1 if is_ratio else 1 / row["must"]
        self.low, self.median, self.high = (row[key] * scale for key in ("min", "median", "max"))
        self.must, self.aim = (row[key] and row[key] * scale for key in ("must", "aim"))
        value = report.ratio(row["median"]) if is_ratio else report.number(row["median"])
        unit = "" if is_ratio else f" {row['unit']}"
        self.value = f"{value}{unit} {report.VERDICTS[row['verdict']]}".rstrip()

    @property
    def numbers(self):
        return [n for n in (self.low, self.high, self.must, self.aim) if n]


class Axis:
    def __init__(self, lines):
        numbers = [n for line in lines for n in line.numbers] + [1]
        self.low, self.high = math.log(min(numbers) / 1.08), math.log(max(numbers) * 1.08)

    def x(self, value):
        share = (math.log(value) - self.low) / (self.high - self.low)
        return round(AXIS_LEFT + share * (AXIS_RIGHT - AXIS_LEFT), 1)

    def ticks(self):
        """Round numbers, 1 among them, whose labels do not touch."""
        inside = [t for t in TICKS if self.low <= math.log(t) <= self.high]
        taken = [1.0]
        for tick in inside:
            if all(abs(self.x(tick) - self.x(other)) > 34 for other in taken):
                taken.append(tick)
        return sorted(taken)


def svg(record):
    """The picture; None when the record has nothing to draw."""
    ratios, amounts = [], []
    for scenario in record["scenarios"]:
        for row in scenario["rows"]:
            # What is zero has no place on this axis, and what has no figures nowhere.
            if row["min"] and row["unit"] == "ratio":
                ratios.append(Line(scenario["name"], row))
            elif row["min"] and row["must"]:
                amounts.append(Line(scenario["name"], row))
    if not ratios and not amounts:
        return None

    parts, top = title(record)
    for name, lines in (("Ratios", ratios), ("Amounts, as share of the must", amounts)):
        if lines:
            drawn, top = panel(name, lines, top)
            parts += drawn
    height = top + MARGIN
    edge = f'width="{WIDTH - 1}" height="{height - 1}"'
    page = f'<rect class="page" x="0.5" y="0.5" {edge} rx="6"/>'
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<style>{STYLE}</style>",
            page,
            *parts,
            "</svg>\n",
        ]
    )


def title(record):
    """(elements, where the first panel begins)."""
    machine, source = record["machine"], record["source"]
    than = "a second program, B" if "versus" in record["programs"] else "the floor"
    changed = " with changes" if source["dirty"] else ""
    where = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"
    how = "dot: median; bar: all rounds; solid tick: must; dashed tick: aim. Less is better."
    top = MARGIN + 18
    return [
        text(MARGIN, top, f"Peal against {than}", "title"),
        text(MARGIN, top + 18, f"commit {source['commit']}{changed}; {where}", "small"),
        text(MARGIN, top + 34, how, "small"),
    ], top + 34


def panel(name, lines, top):
    """(elements, where the next one begins)."""
    axis = Axis(lines)
    begin = top + HEAD
    gaps = sum(a.scenario != b.scenario for a, b in zip(lines, lines[1:]))
    end = begin + ROW * len(lines) + GROUP * gaps
    parts = [text(MARGIN, top + HEAD - 12, name, "title")]
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(stroke(x, begin - 4, x, end, "one" if tick == 1 else "grid"))
        parts.append(text(x, begin - 10, f"{tick:g}", "small", "middle"))
    y, before = begin, None
    for line in lines:
        if before is not None and line.scenario != before:
            y += GROUP
        parts += drawn_line(axis, line, y + ROW / 2, line.scenario != before)
        y, before = y + ROW, line.scenario
    return parts, y


def drawn_line(axis, line, y, is_first):
    parts = [text(MARGIN + NAME_WIDTH, y + 4, line.label)]
    if is_first:
        parts.append(text(MARGIN, y + 4, line.scenario, "small"))
    if line.aim:
        parts.append(stroke(axis.x(line.aim), y - 8, axis.x(line.aim), y + 8, "limit dashed"))
    if line.must:
        parts.append(stroke(axis.x(line.must), y - 8, axis.x(line.must), y + 8, "limit"))
    parts.append(stroke(axis.x(line.low), y, axis.x(line.high), y, f"bar {line.verdict}"))
    parts.append(f'<circle class="{line.verdict}" cx="{axis.x(line.median)}" cy="{y}" r="4"/>')
    parts.append(text(AXIS_RIGHT + 12, y + 4, line.value))
    return parts


def stroke(x1, y1, x2, y2, kind):
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def text(x, y, content, kind="", anchor="start"):
    content = html.escape(content)
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{content}</text>'
