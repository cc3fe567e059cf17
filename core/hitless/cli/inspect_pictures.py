"""What ``hitless inspect --report`` draws."""

from pathlib import Path

from attrs import define, field

from hitless.cli.output import write_report
from hitless.inspect.opening import Opened, Space
from hitless.inspect.ranges import Leaves
from hitless.inspect.space import leaves_text
from hitless.inspect.wording import bytes_text, devices_text
from hitless.report.addresses import Area
from hitless.report.build import SpacePicture, inspect_page

_DRAWN = 100_000


@define
class Pictures:
    """A stream that keeps ranges to draw, and writes the report in the end."""

    image: str
    target: str
    areas: dict[int, list[Area]] = field(factory=dict)
    left_out: dict[int, int] = field(factory=dict)

    def begin(self, opened: Opened) -> None:
        """Nothing is drawn before the first range."""

    def take(self, number: int, space: Space, found: Leaves) -> None:
        areas = self.areas.setdefault(number, [])
        room = _DRAWN - len(areas)
        self.left_out[number] = self.left_out.get(number, 0) + max(found.iovas.size - room, 0)
        kinds = space.reader.entries.kinds
        rows = zip(*(each[:room].tolist() for each in (found.iovas, found.sizes, found.kinds)), strict=True)
        areas += [Area(iova, size, kinds[kind].leaf_lg2) for iova, size, kind in rows]

    def end(self, opened: Opened) -> None:
        spaces = [self._picture(number, space) for number, space in enumerate(opened.spaces)]
        findings = [each.as_json() for each in opened.findings]
        write_report(self.target, inspect_page(Path(self.image).name, spaces, findings))

    def _picture(self, number: int, space: Space) -> SpacePicture:
        reader = space.reader
        title = f"{space.fmt.name}, root {reader.root_pa:#x}"
        totals = {
            "levels": len(space.fmt.levels),
            "devices": devices_text(space.devices) if space.devices else "not asked",
            "mapped": bytes_text(reader.mapped),
            "tables": f"{reader.tables.total():,} ({bytes_text(reader.table_bytes)})",
            "leaves": ", ".join(f"{count:,} of {size}" for size, count in leaves_text(reader.leaves).items()) or "none",
        }
        return SpacePicture(title, totals, self.areas.get(number, []), self.left_out.get(number, 0))
