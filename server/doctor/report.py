"""The findings as text or JSON, and the exit code they come to."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from server.doctor.finding import Section, Status

EXIT_PROBLEMS = 1
STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
WIDTH = max(map(len, STYLES))
INDENT = WIDTH + 4


@dataclass(frozen=True, slots=True)
class Report:
    """What one examination found, and how many seconds it took."""

    sections: Sequence[Section]
    duration: float

    @property
    def counts(self) -> Counter[Status]:
        """How many findings of each status."""
        return Counter(finding.status for section in self.sections for finding in section.findings)

    @property
    def exit_code(self) -> int:
        """1 if anything is a problem, 0 else."""
        return EXIT_PROBLEMS if self.counts["problem"] else 0

    @property
    def summary(self) -> str:
        """The last line."""
        problems, warnings = self.counts["problem"], self.counts["warning"]
        return f"{_count(problems, 'problem')}, {_count(warnings, 'warning')} ({self.duration:.1f} s)"

    def to_json(self) -> str:
        """One document."""
        document = {
            "status": "problem" if self.counts["problem"] else "warning" if self.counts["warning"] else "ok",
            "counts": {status: self.counts[status] for status in STYLES},
            "seconds": round(self.duration, 3),
            "sections": [
                {"title": section.title, "findings": [asdict(finding) for finding in section.findings]}
                for section in self.sections
            ],
        }
        return json.dumps(document, ensure_ascii=False, indent=2)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def print_report(report: Report) -> None:
    """On a terminal with colours and wrapped, elsewhere plain. Raises BrokenPipeError where nobody reads on."""
    if sys.stdout.isatty():
        _print_coloured(report)
    else:
        print("\n".join(plain_lines(report)))


def plain_lines(report: Report) -> list[str]:
    """One line for each finding, its remedy in the line below."""
    lines: list[str] = []
    for section in report.sections:
        lines += [section.title]
        for finding in section.findings:
            lines.append(f"  {finding.status:<{WIDTH}}  {finding.text}")
            if finding.remedy:
                lines.append(" " * INDENT + f"-> {finding.remedy}")
        lines.append("")
    return [*lines, report.summary]


def _print_coloured(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for section in report.sections:
        console.print(Text(section.title, style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
        table.add_column(width=WIDTH)
        table.add_column(overflow="fold")
        for finding in section.findings:
            table.add_row(Text(finding.status, style=STYLES[finding.status]), Text(finding.text))
            if finding.remedy:
                table.add_row("", Text(f"-> {finding.remedy}", style="cyan"))
        console.print(table)
        console.print()
    console.print(Text(report.summary, style="bold"))
