"""Pointers to tables: those that stores took away and caches may hold, and what a walk can still come to."""

from collections.abc import Sequence
from typing import NamedTuple

from attrs import define, field

from hitless.check.held import OPEN, Link
from hitless.check.spans import PointerSpan, Table
from hitless.hardware.facts import Drops
from hitless.pagetable import PageFormat


class Pending(NamedTuple):
    """A command that was submitted at a step, and for which no wait has completed yet."""

    at: int
    drops: Drops


@define(eq=False)
class Links:
    """Tables whose reachability a plan changes, and every pointer that leads, or led, to one.

    A table that is not filed here is one that the root reaches all the time.

    Args:
        roots: root tables, with the bits of all units whose walks may begin there.
        named: those of them that memory's structures name.
        tlbs: the bits of all units: who may have cached a pointer that memory held.
    """

    fmt: PageFormat
    roots: dict[int, int]
    named: set[int]
    tlbs: int
    tables: dict[int, Table] = field(factory=dict)
    stale: list[Link] = field(factory=list)
    _to: dict[int, list[Link]] = field(factory=dict)

    def link(self, table: Table, span: PointerSpan) -> Link:
        """The link for a pointer that memory holds, as every unit may cache it from now on."""
        known = self._to.setdefault(span.child.pa, [])
        self.tables[span.child.pa] = span.child
        for each in known:
            if each.entry_pa == span.entry_pa and each.word == span.word and not each.overwritten:
                break
        else:
            span_lg2 = self.fmt.levels[table.level].lo
            child = span.child
            each = Link(
                table.pa,
                span.entry_pa,
                table.level,
                span.start,
                span_lg2,
                child.pa,
                child.level,
                child.rights,
                span.word,
                0,
            )
            known.append(each)
        each.alive |= self.walkers(table.pa)
        return each

    # -- reachability

    def known(self, table_pa: int) -> bool:
        """Whether a table is filed here."""
        return table_pa in self._to

    def walkers(self, table_pa: int) -> int:
        """The units whose walks may come to a table, now: by memory, or by a pointer that they hold."""
        if table_pa not in self._to:
            return self.roots.get(table_pa, self.tlbs)
        units = self.roots.get(table_pa, 0)
        for link in self._to[table_pa]:
            units |= link.alive
            if link.window.until == OPEN and units != self.tlbs:
                units |= self.walkers(link.table_pa)
        return units

    def after(self, table_pa: int, command: Pending, unit: int) -> bool:
        """Whether a walk of a unit may come to a table after a pending command has taken effect."""
        links = self._to.get(table_pa)
        if links is None or self.roots.get(table_pa, 0) >> unit & 1:
            return bool(self.roots.get(table_pa, self.tlbs) >> unit & 1)
        return any(
            (link.alive >> unit & 1 and not link.targeted(command.drops))
            or (link.window.until > command.at and self.after(link.table_pa, command, unit))
            for link in links
        )

    # -- what commands do

    def dropped(self, unit: int, commands: Sequence[Pending]) -> list[Link]:
        """Stale pointers that a unit cannot hold any more once the commands have taken effect."""
        return [
            link
            for link in self.stale
            if link.alive >> unit & 1
            and any(
                link.targeted(command.drops)
                and not (link.window.until > command.at and self.after(link.table_pa, command, unit))
                for command in commands
            )
        ]

    def forget(self) -> None:
        """Stale pointers that nobody holds, and memory does not either, lead nowhere."""
        for link in self.stale:
            if not link.alive and link.window.until < OPEN:
                links = self._to[link.child]
                if link in links:
                    links.remove(link)
        gone = [link for link in self.stale if not link.alive and link.window.until < OPEN]
        for link in gone:
            link.stale = False
        self.stale = [link for link in self.stale if link.stale]

    def table_at(self, pa: int, level: int) -> Table | None:
        """The table of a level that holds an address, if it is filed and a walk can come to it."""
        size_lg2 = self.fmt.levels[level].table_lg2
        table = self.tables.get(pa >> size_lg2 << size_lg2)
        return table if table is not None and self.walkers(table.pa) else None

    def unlinked(self) -> list[Table]:
        """Tables that only cached pointers lead to."""
        children = {link.child for link in self.stale if link.alive}
        return [self.tables[pa] for pa in sorted(children) if not self.in_memory(pa)]

    def leave(self, link: Link, at: int) -> bool:
        """File a pointer that memory, or the root, does not lead to any more; False if it was filed before."""
        if link.stale:
            return False
        link.stale, link.born = True, at
        self.stale.append(link)
        return True

    def in_memory(self, table_pa: int) -> bool:
        """Whether memory leads to a table from the root; not by a word that was overwritten and may still be read."""
        links = self._to.get(table_pa)
        if links is None or table_pa in self.named:
            return table_pa in self.named or table_pa not in self.roots
        return any(not link.overwritten and self.in_memory(link.table_pa) for link in links)
