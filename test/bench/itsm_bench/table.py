"""The one table that the benchmarks end in."""
import textwrap


def figure(value):
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == int(value) or abs(value) >= 1000:
        return "{:,.0f}".format(value)
    return "{:.3g}".format(value) if abs(value) < 10 else "{:.1f}".format(value)


class Table:
    HEAD = ("row", "what", "figure", "limit", "ratio", "target", "")

    def __init__(self):
        self.rows = []
        self.notes = []
        self.failed = []

    def add(self, row, what, value, unit, *, limit=None, limit_of="", ratio=None, target="", met=None):
        """One row.  ratio: to the limit, unless it is given; met: None where there is no target."""
        if ratio is None and isinstance(limit, (int, float)) and limit:
            ratio = value / limit
        verdict = "" if met is None else "ok" if met else "MISSED"
        cells = (
            row,
            what,
            ("%s %s" % (figure(value), unit)).strip(),
            ("%s %s" % (figure(limit), limit_of)).strip() if limit is not None else "",
            "" if ratio is None else "%.2f" % ratio,
            target,
            verdict,
        )
        self.rows.append(cells)
        print("  %s" % "  ".join(cell for cell in cells if cell), flush=True)

    def fail(self, row, what, reason):
        """A row that could not be measured."""
        self.failed.append(row)
        self.rows.append((row, what, "", "", "", "", "NOT RUN"))
        self.notes.append("%s  not run: %s" % (row, reason))
        print("      not run: %s" % reason, flush=True)

    def note(self, row, text):
        self.notes.append("%s  %s" % (row, text))
        print("      %s" % text, flush=True)

    def missed(self):
        return [row[0] for row in self.rows if row[-1] == "MISSED"]

    def text(self):
        lines = [self.HEAD] + sorted(self.rows, key=lambda row: row[0])
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.HEAD))]
        right = (2, 4)
        made = []
        for line in lines:
            cells = [
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths))
            ]
            made.append("  ".join(cells).rstrip())
        made.insert(1, "  ".join("-" * max(width, 1) for width in widths[:-1]))
        made.append("")
        for note in sorted(self.notes, key=lambda note: note[0]):
            made += textwrap.wrap(note, 118, subsequent_indent="   ", break_on_hyphens=False)
        return "\n".join(made)
