"""Many pages at once: an NVMe controller reads hundreds of scattered pages through the unit with one command."""

import random

import pytest

from hitless.hardware.structures import Found, StageRoot
from hitless.hardware.translator import Attachment
from hitless.machine.qemu.nvme import BULK_DEVICE, MOST_PAGES, WINDOW_LG2
from hitless.ownership import OwnerTable
from hitless.units import PAGE
from qemu_stand import FORMATS, emulated, machine_of, put, unit_of

G, M = 1 << 30, 1 << 20
GUEST = 1 << 32
WINDOW, TABLE = 64 * M, 128 * M


@pytest.mark.parametrize(("vendor", "page_format"), FORMATS, ids=[name for _, name in FORMATS])
def test_scattered_pages_before_and_after(vendor, page_format):
    """2,048 pages in no order, each with its own address in it; then half of them are moved; a hole reads as zeros."""
    record = emulated(vendor, page_format)
    with machine_of(record, bulk=True) as machine:
        unit = unit_of(machine, record)
        root, tag = machine.tables.allocate(record.page_format.top.table_lg2), 1
        for page in range(0, 1 << WINDOW_LG2, PAGE):
            put(machine, record, root, WINDOW + page, 12, unit.bulk.window_pa + page)
        frames = random.Random(7).sample(range(GUEST + PAGE, GUEST + G, PAGE), 4 * MOST_PAGES)
        moved = [frame ^ 2 * M for frame in frames]
        for frame in {*frames, *moved}:
            machine.guest.store(frame, frame)
        iovas = [TABLE + page * PAGE for page in range(len(frames))]
        for iova, frame in zip(iovas, frames, strict=True):
            put(machine, record, root, iova, 12, frame)
        stage = StageRoot(record.page_format, root, tag)
        stages = (stage, None) if record.page_format.stage == "1" else (None, stage)
        found = Found("translate", *stages, tag)
        unit.attach([Attachment(BULK_DEVICE, found, record.ownership, OwnerTable())])
        unit.bulk.start(WINDOW)

        def gathered() -> list[int]:
            parts = [iovas[at : at + MOST_PAGES] for at in range(0, len(iovas), MOST_PAGES)]
            return [word for part in parts for word in unit.bulk.gather(part)]

        assert gathered() == frames
        for at in range(0, len(iovas), 2):
            put(machine, record, root, iovas[at], 12, moved[at])
        for words in record.commands.invalidate_tag(tag):
            unit.submit(words)
        unit.complete()
        assert gathered() == [moved[at] if at % 2 == 0 else frame for at, frame in enumerate(frames)]
        assert unit.bulk.gather([TABLE, TABLE + 512 * M, TABLE + PAGE]) == [moved[0], 0, frames[1]]
