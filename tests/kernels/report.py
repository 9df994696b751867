"""What the table at the end of ``make test-kernels`` says: one line per kernel."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    """One kernel: its release, the optional features that it lacks, and each part's result."""

    release: str = "?"
    missing: str = "?"
    parts: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Filled by the tests as they go."""

    rows: dict[str, Row] = field(default_factory=dict)

    def row(self, kernel: str) -> Row:
        return self.rows.setdefault(kernel, Row())

    def table(self) -> str:
        parts = list(dict.fromkeys(part for row in self.rows.values() for part in row.parts))
        lines = [["kernel", "release", "without", *parts, "failed"]]
        for name, row in self.rows.items():
            results = [row.parts.get(part, "-") for part in parts]
            failed = "; ".join(row.failed) or "nothing"
            lines.append([name, row.release, row.missing, *results, failed])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


REPORT = Report()
