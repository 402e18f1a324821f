"""Self-contained HTML pages, of a result or of some of its units: they open offline, with pictures inside."""

from neuroprobe.report.gallery import write_gallery
from neuroprobe.report.writer import write_report

__all__ = ["write_gallery", "write_report"]
