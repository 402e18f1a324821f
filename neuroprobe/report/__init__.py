"""One self-contained HTML page per result: it opens offline, with pictures inside."""

from neuroprobe.report.writer import write_report

__all__ = ["write_report"]
