"""Memory for tests of images: pages of words, and nothing where no page is."""

import numpy as np

from hitless.errors import BusError


class Pages:
    """Readable memory of whole 4 KiB pages; ``put`` writes words, wherever they lie."""

    def __init__(self) -> None:
        self.pages: dict[int, np.ndarray] = {}

    def put(self, pa: int, *words: int) -> None:
        for number, word in enumerate(words):
            at = pa + 8 * number
            page = self.pages.setdefault(at >> 12, np.zeros(512, np.uint64))
            page[at >> 3 & 511] = word

    def load(self, pa: int) -> int:
        return int(self.view(pa, 1)[0])

    def view(self, pa: int, count: int) -> np.ndarray:
        if pa % 8:
            raise BusError(pa, "misaligned")
        parts = []
        at, left = pa, count
        while left:
            page = self.pages.get(at >> 12)
            if page is None:
                raise BusError(pa, "no page")
            part = page[at >> 3 & 511 :][:left]
            parts.append(part)
            at, left = at + 8 * len(part), left - len(part)
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def contains(self, pa: int, size: int) -> bool:
        return all(page in self.pages for page in range(pa >> 12, (pa + size - 1 >> 12) + 1))

    def write(self, path) -> None:
        """As a raw image that begins at 0."""
        with path.open("wb") as out:
            out.truncate(max(self.pages, default=0) + 1 << 12)
            for page, words in self.pages.items():
                out.seek(page << 12)
                out.write(words.tobytes())
