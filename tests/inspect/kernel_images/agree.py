"""Whether the tables of an image lead where QEMU's own walker went."""

from collections.abc import Iterable

import click
from traces import Live

from hitless.cli.image_options import Where, asked, tables_of_image
from hitless.hardware.walker import Translation, translate
from hitless.inspect.opening import open_spaces

_PAGE = 4096


class Session:
    """The options of ``hitless inspect``, taken by its own parser, and what they name."""

    def __init__(self, options: list[str]) -> None:
        @click.command()
        @tables_of_image
        def parse(where: Where) -> Where:
            return where

        self.where = parse.main(args=options, standalone_mode=False)
        self.asked = asked(self.where)

    def translated(self, memory, each: Live) -> Translation | object:
        """What a device's page leads to, for reading, or for writing where only that is allowed."""
        for write in (False, True):
            structures, base = self.asked.structures, self.asked.base
            found = translate(memory.load, structures, base, each.device, each.iova, write=write).outcome
            if isinstance(found, Translation):
                break
        return found

    def read_all(self, memory) -> None:
        """Read every table of every device."""
        for space in open_spaces(memory, self.asked).spaces:
            for _ in space.reader.chunks():
                pass


def disagreements(session: Session, memory, traced: Iterable[Live]) -> list[str]:
    """Every translation of a trace that the tables do not make.

    QEMU's AMD model may print the start of the leaf instead of the page.
    """
    found = []
    for each in sorted(traced):
        at = session.translated(memory, each)
        pas = {at.pa + each.iova - at.start & -_PAGE, at.pa} if isinstance(at, Translation) else set()
        if each.pa not in pas:
            found.append(f"device {each.device:#x} IOVA {each.iova:#x}: the trace says {each.pa:#x}, tables {at}")
    return found
