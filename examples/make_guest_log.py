"""A synthetic profile, not a recording: the conversion log of a 16 GiB guest's boot and run.

Writes what QEMU prints with ``-trace kvm_convert_memory`` for a confidential guest, among other
lines, as gzip. The same seed gives the same bytes (with the same zlib).

    python examples/make_guest_log.py [--seed N] [--conversions N] [--output FILE]

The guest has 16 vCPUs and RAM at [0, 2G) and [4G, 18G); below 4 GiB lies the hole of an x86 machine.
QEMU makes all RAM private at the start, without a line. Then:

- firmware: its own buffers, and device registers below 4 GiB, turn shared;
- kernel: a few pages per vCPU, then the bounce buffer pool (swiotlb) of 512 MiB as a whole;
- drivers: device registers above the RAM, virtio rings of one to four pages;
- run: pages of the pool turn private and come back; single pages scattered over private memory, and
  rings, turn shared and come back; now and then a whole 2 MiB does, in either direction.

What is made up: how many of each there are, where they lie, and how they mix. No operating system
turns pages of its pool private one by one; the log has it because it is the hardest case.
"""

import argparse
import gzip
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
PAGE, HUGE = 4 * K, 2 * M
LOW_END = 2 * G
HIGH_START, HIGH_END = 4 * G, 18 * G
POOL_START, POOL_SIZE = 0x58000000, 512 * M
VCPUS = 16

OUTPUT = Path(__file__).with_name("guest-16g.log.gz")
SEED = 1
CONVERSIONS = 20_800
"""In all; boot takes about 200 of them."""

FIRMWARE_MMIO = ((0xFEC00000, PAGE), (0xFED00000, PAGE), (0xFEBC0000, 4 * PAGE), (0xFEE00000, PAGE))
DEVICE_MMIO = 0x380000000000
"""Where firmware puts 64-bit device registers: 56 TiB, far above RAM."""
DEVICES = 12


class GuestLog:
    """The log's lines, and the clock and the chance that they come from."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lines: list[str] = []
        self.conversions = 0
        self._microseconds = 1_700_000_000_123_456

    def convert(self, start: int, size: int, direction: str) -> None:
        """QEMU's event, behind the prefix of its log backend."""
        self._event(f"kvm_convert_memory start {start:#x} size {size:#x} {direction}")
        self.conversions += 1

    def share(self, start: int, size: int = PAGE) -> None:
        """The host may use it from here on."""
        self.convert(start, size, "private_to_shared")

    def protect(self, start: int, size: int = PAGE) -> None:
        """Only the guest may use it from here on."""
        self.convert(start, size, "shared_to_private")

    def trace(self, text: str) -> None:
        """Another trace event."""
        self._event(text)

    def console(self, text: str) -> None:
        """A line of the guest's serial console, which goes to the same file."""
        seconds = (self._microseconds - 1_700_000_000_123_456) / 1e6
        self.lines.append(f"[{seconds:12.6f}] {text}")

    def below(self, n: int) -> int:
        """A number in [0, n)."""
        return self.chance.randrange(n)

    def _event(self, text: str) -> None:
        self._microseconds += 20 + self.below(3000)
        seconds, rest = divmod(self._microseconds, 1_000_000)
        self.lines.append(f"12345@{seconds}.{rest:06}:{text}")


class Places:
    """Parts of RAM of 2 MiB each, none of which is used for two purposes."""

    def __init__(self, log: GuestLog) -> None:
        self._log = log
        self._used: set[int] = set()

    def huge(self, start: int, end: int) -> int:
        """A part of ``[start, end)``, aligned to 2 MiB, that nobody has."""
        while True:
            part = start + self._log.below((end - start) // HUGE) * HUGE
            if part not in self._used:
                self._used.add(part)
                return part

    def pages(self, parts: int, each: int, start: int, end: int) -> list[int]:
        """Single pages, up to ``each`` in every one of so many parts."""
        found: set[int] = set()
        for _ in range(parts):
            part = self.huge(start, end)
            found.update(part + self._log.below(512) * PAGE for _ in range(each))
        return sorted(found)


class Toggle:
    """Ranges of one kind that are turned and come back: at most so many are away at a time."""

    def __init__(
        self,
        log: GuestLog,
        ranges: list[tuple[int, int]],
        away: int,
        turn: Callable[[int, int], None],
        back: Callable[[int, int], None],
    ) -> None:
        self._log = log
        self._home = ranges
        self._away: list[tuple[int, int]] = []
        self._most = away
        self._turn = turn
        self._back = back

    def step(self) -> None:
        """One range is turned, or one comes back."""
        if len(self._away) >= self._most or (self._away and self._log.below(2)):
            self._move(self._away, self._home, self._back)
        else:
            self._move(self._home, self._away, self._turn)

    def _move(
        self, source: list[tuple[int, int]], target: list[tuple[int, int]], how: Callable[[int, int], None]
    ) -> None:
        chosen = source.pop(self._log.below(len(source)))
        target.append(chosen)
        how(*chosen)


def boot(log: GuestLog, places: Places) -> None:
    """Firmware, kernel and drivers, up to the first process."""
    for start, size in FIRMWARE_MMIO:
        log.share(start, size)
    firmware = places.pages(2, 8, LOW_END - 64 * M, LOW_END)
    for page in firmware:
        log.share(page)
    log.console("Linux version 6.16.0 (synthetic) #1 SMP PREEMPT_DYNAMIC")
    log.console("Memory Encryption Features active")
    for vcpu, page in enumerate(places.pages(4, VCPUS, HIGH_START, HIGH_START + 1 * G)[: 3 * VCPUS]):
        log.share(page)
        if vcpu % 3 == 0:
            log.trace(f"kvm_run_exit cpu_index {vcpu // 3}, reason 39")
    log.share(POOL_START, POOL_SIZE)
    end = POOL_START + POOL_SIZE
    log.console(f"software IO TLB: mapped [mem {POOL_START:#018x}-{end:#018x}] (512MB)")
    for page in firmware[:3]:
        log.share(page)  # the kernel does not know what firmware has converted
    for device in range(DEVICES):
        log.share(DEVICE_MMIO + device * 4 * PAGE, 4 * PAGE)
        log.console(f"virtio-pci 0000:00:{device + 2:02x}.0: enabling device (0000 -> 0002)")
    log.share(0xFEBC0000, 4 * PAGE)


def kinds(log: GuestLog, places: Places) -> Iterator[tuple[int, Toggle]]:
    """What goes on while the guest runs, each kind with its weight in percent."""

    def single(pages: list[int]) -> list[tuple[int, int]]:
        return [(page, PAGE) for page in pages]

    pool_end = POOL_START + POOL_SIZE
    in_pool = single(places.pages(64, 40, POOL_START, pool_end))
    scattered = single(places.pages(240, 10, HIGH_START + 1 * G, HIGH_END))
    rings = [
        (part + slot * 8 * PAGE, (1 + log.below(4)) * PAGE)
        for part in (places.huge(HIGH_START, HIGH_START + 1 * G) for _ in range(DEVICES))
        for slot in range(8)
    ]
    for start, size in rings:
        log.share(start, size)
    pool_parts = [(places.huge(POOL_START, pool_end), HUGE) for _ in range(8)]
    private_parts = [(places.huge(HIGH_START + 1 * G, HIGH_END), HUGE) for _ in range(8)]
    yield 45, Toggle(log, in_pool, 200, log.protect, log.share)
    yield 45, Toggle(log, scattered, 300, log.share, log.protect)
    yield 8, Toggle(log, rings, 16, log.protect, log.share)
    yield 1, Toggle(log, pool_parts, 4, log.protect, log.share)
    yield 1, Toggle(log, private_parts, 4, log.share, log.protect)


def run(log: GuestLog, places: Places, conversions: int) -> None:
    """The guest at work, until the log holds so many conversions."""
    running = list(kinds(log, places))
    top = places.huge(HIGH_END - 64 * M, HIGH_END)
    log.share(top, PAGE)
    while log.conversions < conversions - 1:
        dice = log.below(100)
        for weight, kind in running:
            dice -= weight
            if dice < 0:
                kind.step()
                break
        if log.below(40) == 0:
            log.trace(f"kvm_run_exit cpu_index {log.below(VCPUS)}, reason {(2, 39, 57)[log.below(3)]}")
        if log.below(400) == 0:
            log.console(f"virtio_blk virtio{log.below(DEVICES)}: [vda] cache type: write back")
        if log.below(2000) == 0:
            log.share(DEVICE_MMIO + log.below(DEVICES) * 4 * PAGE, 4 * PAGE)
    log.protect(top, PAGE)


def guest_log(seed: int = SEED, conversions: int = CONVERSIONS) -> str:
    """The text of the log."""
    log = GuestLog(seed)
    log.lines.append(f"# synthetic profile, not a recording: examples/make_guest_log.py --seed {seed}")
    places = Places(log)
    boot(log, places)
    run(log, places, conversions)
    return "".join(line + "\n" for line in log.lines)


def compress(text: str) -> bytes:
    """The text as gzip, without a time in it."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as packed:
        packed.write(text.encode())
    return buffer.getvalue()


def main() -> None:
    """Write the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED, help=f"default {SEED}")
    parser.add_argument("--conversions", type=int, default=CONVERSIONS, help=f"default {CONVERSIONS}")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: beside this script")
    options = parser.parse_args()
    data = compress(guest_log(options.seed, options.conversions))
    options.output.write_bytes(data)
    print(f"{options.output}: {len(data)} bytes, {options.conversions} conversions")


if __name__ == "__main__":
    main()
