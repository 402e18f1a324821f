"""Where in its file each part of a protocol stands."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from neuroprobe.errors import NeuroprobeError

Path_ = tuple[Hashable, ...]


@dataclass
class Places:
    """Lines and columns of a protocol's file; protocols do not differ by them.

    Attributes
    ----------
    file : str
        Empty where the protocol was given as a mapping.
    marks : dict of (int, int)
        Path of keys and indices → line and column of the key, or of the item of a list.
    """

    file: str = field(default="", compare=False)
    marks: dict[Path_, tuple[int, int]] = field(default_factory=dict, compare=False)

    def path(self, loc: Path_) -> Path_:
        """Path in the file of a location, which may hold labels of forms and keys that are not in the file."""
        # a label may have the name of a key: of all paths within the location, the longest that ends as it does
        paths: list[Path_] = [()]
        for part in loc:
            paths += [(*path, part) for path in paths if (*path, part) in self.marks]
        return max(reversed(paths), key=lambda path: (bool(path) and path[-1] == loc[-1], len(path)))

    def mark(self, path: Path_) -> tuple[int, int]:
        """Line and column of a path; 0 where they are not known."""
        return self.marks.get(path, (0, 0))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell of errors about parts of the protocol where these stand."""
        try:
            yield
        except NeuroprobeError as error:
            if error.loc and self.file and not error.place:
                line, column = self.mark(self.path(error.loc))
                error.place = f"{self.file}:{line}:{column}"
            raise
