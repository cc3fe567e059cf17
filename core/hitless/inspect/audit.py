"""The static rules: what must hold of tables at rest, whoever wrote them, and whoever owns the memory.

Findings carry the ids of docs/rules.md where a rule says it (W1, B1, C2, T1), else those of docs/images.md.
"""

from collections.abc import Callable, Iterator

import numpy as np
from attrs import define, field

from hitless.bits import MASK64, U64Array
from hitless.hardware.vendor import Vendor
from hitless.inspect.findings import Finding, Findings
from hitless.inspect.opening import Opened, Space
from hitless.inspect.owners import Owners
from hitless.inspect.ranges import Leaves, joined
from hitless.inspect.space import AddressSpace, Table
from hitless.ownership import HOST, Boundary
from hitless.pagetable import WRITE
from hitless.units import PAGE_LG2, lg2_text

_PAGE = np.uint64(PAGE_LG2)


@define
class AuditedSpace(AddressSpace):
    """An address space whose tables are looked at as such: empty ones, split leaves, runs.

    ``apart``: whether owners keep leaves of a physical range apart, from its start and size.
    """

    apart: Callable[[int, int], bool] | None = None

    def seen(self, table: Table) -> None:
        super().seen(table)
        if not table.leaf.any():
            if table.level is not self.fmt.top and not np.any(self.fmt.present(table.words)):
                self._empty(table)
            return
        if self._runs_agree(table) and table.leaf.all() and table.level is not self.fmt.top:
            self._whole(table)

    def _empty(self, table: Table) -> None:
        why = f"no entry of the {table.level} table {table.pa:#x} is present"
        do = "prune it: unlink, invalidate with table entries included, wait, then free"
        self.findings.add(Finding("I4", f"table {table.pa:#x}, IOVA {table.iova:#x}", "0x0", why, do))

    def _runs_agree(self, table: Table) -> bool:
        """Whether all entries of each run say one thing (W1)."""
        fmt, number = self.fmt, table.level.number
        at = np.flatnonzero(table.leaf)
        words = table.words[at]
        lg2s = np.broadcast_to(fmt.leaf_lg2(words, number), at.shape)
        legal = {size.lg2: size for size in fmt.leaf_sizes if size.level == number and size.entries_lg2}
        mask = np.uint64(fmt.hardware_set(number) ^ MASK64)
        agree = True
        for lg2, size in legal.items():
            here = lg2s == lg2
            if not here.any():
                continue
            within = at[here] & (1 << size.entries_lg2) - 1
            step = np.uint64(fmt.run_step(lg2))
            wanted = (table.words[at[here] - within] & mask) + within.astype(np.uint64) * step
            wrong = (words[here] & mask) != wanted
            first = at[here] - within
            for start in np.unique(first[wrong]).tolist():
                agree = False
                self._torn(table, int(start), lg2, int(at[here][wrong][first[wrong] == start][0]))
            starts, counts = np.unique(first, return_counts=True)
            for start in starts[counts != 1 << size.entries_lg2].tolist():
                agree = False
                self._torn(table, int(start), lg2, int(start))
        return agree

    def _torn(self, table: Table, start: int, lg2: int, index: int) -> None:
        why = f"the entries of one run of {lg2_text(lg2)}, from index {start} on, do not say one thing"
        do = "write the run as a whole, or as plain leaves; invalidate all of it"
        self.findings.add(Finding("W1", self.place(table, index), f"{int(table.words[index]):#x}", why, do))

    def _whole(self, table: Table) -> None:
        """Whether the leaves of a full table could be one leaf of the level above (I3)."""
        fmt, number = self.fmt, table.level.number
        size = table.level.lo + table.level.bits
        above = fmt.levels[number + 1]
        if size != above.lo or not any(each.lg2 == size and not each.entries_lg2 for each in fmt.leaf_sizes):
            return
        kinds, oas = self.entries.leaves(table.words, number)
        if (kinds != kinds[0]).any() or kinds[0] < 0:
            return
        offsets = np.arange(table.words.size, dtype=np.uint64) << np.uint64(table.level.lo)
        span = (1 << self.entries.kinds[int(kinds[0])].leaf_lg2) - 1
        first = int(oas[0])
        if first & (1 << size) - 1 or (oas != np.uint64(first) + (offsets & np.uint64(span ^ MASK64))).any():
            return
        if self.apart is not None and self.apart(first, 1 << size):
            return
        why = f"all {table.words.size} leaves of the table {table.pa:#x} together are one leaf of {lg2_text(size)}"
        do = "merge them, unless an owner or another size is about to cut it again"
        where = f"table {table.pa:#x}, IOVA {table.iova:#x}"
        self.findings.add(Finding("I3", where, f"{int(table.words[0]):#x}", why, do))


@define
class Audit:
    """One audit of all that was asked for.

    Args:
        opened: the spaces; read by :meth:`run`.
        owners: who owns memory; None: nobody says.
        demands: the vendor whose default policy says where leaves have to end.
        pages: physical pages of structures.
    """

    opened: Opened
    owners: Owners | None
    demands: Vendor
    pages: set[int] = field(factory=set)
    ranges: int = 0

    @property
    def findings(self) -> Findings:
        return self.opened.findings

    def run(self) -> None:
        """Read every space, then hold its leaves against owners and tables."""
        writable: list[tuple[Space, Leaves]] = []
        policy = self.demands.ownership.policies[self.demands.ownership.default_policy]
        for space in self.opened.spaces:
            if self.owners is not None and policy.boundary is not Boundary.NONE:
                space.reader.apart = self.owners.differ  # type: ignore[attr-defined]
            for chunk in self._checked(space):
                for found in joined([chunk]):
                    self.ranges += found.iovas.size
                    writable.append((space, found.at(self._writes(space, found))))
        tables = self._table_pages()
        self._owned(tables)
        for space, found in writable:
            self._maps_tables(space, found, tables)

    def _checked(self, space: Space) -> Iterator[Leaves]:
        """The chunks of a space, each held against the owners."""
        policy = self.demands.ownership.policies[self.demands.ownership.default_policy]
        unit = policy.check_unit_lg2 if policy.boundary is Boundary.CHECK_UNIT else PAGE_LG2
        for chunk in space.reader.chunks():
            if self.owners is not None and chunk.iovas.size:
                if policy.boundary is not Boundary.NONE:
                    self._boundaries(space, chunk, unit)
                if not policy.maps_private:
                    self._private(space, chunk)
            yield chunk

    def _writes(self, space: Space, found: Leaves) -> np.ndarray:
        kinds = space.reader.entries.kinds
        rights = np.array([kind.rights & WRITE for kind in kinds.all], np.int64)
        return np.flatnonzero(rights[found.kinds])

    # -- B1, C2

    def _boundaries(self, space: Space, chunk: Leaves, unit: int) -> None:
        """Leaves that span a place where the owner changes (B1)."""
        assert self.owners is not None  # noqa: S101 - asked only with owners
        kinds = space.reader.entries.kinds
        lg2s = np.array([max(kind.leaf_lg2, unit) for kind in kinds.all], np.uint64)[chunk.kinds]
        starts = chunk.pas >> lg2s << lg2s
        across = self.owners.index(starts) != self.owners.index(starts + ((np.uint64(1) << lg2s) - np.uint64(1)))
        iovas = chunk.iovas >> lg2s << lg2s
        _, first = np.unique(iovas[across], return_index=True)
        for at in np.flatnonzero(across)[first].tolist():
            pa, size = int(starts[at]), lg2_text(int(lg2s[at]))
            edge = self.owners.edge_after(pa)
            why = f"the owner changes at {edge:#x}, inside the leaf of {size} at {pa:#x}"
            self._leaf("B1", space, int(iovas[at]), pa, why, "cut it there, and invalidate all of it")

    def _private(self, space: Space, chunk: Leaves) -> None:
        """Leaves of guest-owned memory where the policy maps shared memory only (C2)."""
        assert self.owners is not None  # noqa: S101 - asked only with owners
        first = self.owners.index(chunk.pas)
        last = self.owners.index(chunk.pas + (chunk.sizes - np.uint64(1)))
        theirs = (self.owners.owners[first] != HOST) | (first != last)
        for at in np.flatnonzero(theirs).tolist():
            pa = int(chunk.pas[at])
            why = f"a guest owns memory at {pa:#x}, and policy {self.demands.ownership.default_policy} maps none of it"
            self._leaf("C2", space, int(chunk.iovas[at]), pa, why, "wipe the range, invalidate it, and wait")

    def _leaf(self, rule: str, space: Space, iova: int, pa: int, why: str, do: str) -> None:
        where = f"leaf of IOVA {iova:#x} in the tables of {space.reader.root_pa:#x}"
        self.findings.add(Finding(rule, where, f"{pa:#x}", why, do))

    # -- T1

    def _table_pages(self) -> U64Array:
        """Physical pages of all tables and structures, sorted."""
        pages = set(self.pages)
        for space in self.opened.spaces:
            if space.key is not None and space.key.under is not None:
                continue  # a guest's own tables, at guest physical addresses
            for pa, number in space.reader.table_pas.items():
                size = 8 << space.fmt.levels[number].bits
                pages.update(range(pa >> PAGE_LG2, (pa + size - 1 >> PAGE_LG2) + 1))
        return np.array(sorted(pages), np.uint64)

    def _owned(self, pages: U64Array) -> None:
        """Tables and structures in guest-owned memory."""
        if self.owners is None or not pages.size:
            return
        theirs = self.owners.owners[self.owners.index(pages << _PAGE)] != HOST
        for page in pages[theirs].tolist():
            pa = page << PAGE_LG2
            why = f"a guest owns the page {pa:#x}, which holds a table or a structure"
            self.findings.add(Finding("T1", f"page {pa:#x}", f"{pa:#x}", why, "give tables memory that the host keeps"))

    def _maps_tables(self, space: Space, found: Leaves, pages: U64Array) -> None:
        """Tables and structures that a device may write to."""
        first = np.searchsorted(pages, found.pas >> _PAGE)
        last = np.searchsorted(pages, (found.pas + (found.sizes - np.uint64(1))) >> _PAGE, side="right")
        for at in np.flatnonzero(last > first).tolist():
            for page in pages[first[at] : last[at]].tolist():
                iova = int(found.iovas[at]) + (page << PAGE_LG2) - int(found.pas[at])
                why = f"the page {page << PAGE_LG2:#x} holds a table or a structure, and devices may write to it"
                self._leaf("T1", space, iova, page << PAGE_LG2, why, "unmap it, or keep tables out of what is mapped")
