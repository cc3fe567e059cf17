"""Scenarios of single conversions: where the pages lie, and how many there are."""

from collections.abc import Iterator

from hitless.check.scenarios.base import Attempt, Case, G, Ground, M, Scenario, Trial, both_ways, everywhere, pages
from hitless.check.stage import Setting
from hitless.units import PAGE


def top_of(ground: Ground) -> int:
    """The end of the address space, or of its lower half where it has two."""
    fmt = ground.vendor.page_format
    end = 1 << fmt.iova_bits
    return end if fmt.canonical(end - PAGE) == end - PAGE else end >> 1


def _last_page(backing: str) -> Attempt:
    def attempt(ground: Ground) -> Iterator[Case | Trial]:
        top = top_of(ground)
        yield from both_ways(Setting(backing, memory=G, gpa=top - G), pages(top - PAGE))(ground)

    return attempt


SCENARIOS = (
    Scenario(
        "one-page-in-1g",
        "one page inside a 1 GiB hunk, shared and private",
        (*everywhere(pages(G + 5 * PAGE)), *everywhere(pages(G + 5 * PAGE), private=True)),
    ),
    Scenario(
        "one-page-in-2m",
        "one page inside a 2 MiB hunk",
        everywhere(pages(4 * M + 5 * PAGE), memory=64 * M, hunk_lg2=21),
    ),
    Scenario("one-page-in-4k", "one page of a hunk of pages", everywhere(pages(5 * PAGE), memory=4 * M, hunk_lg2=12)),
    Scenario("small-space", "one page of a guest of 1 MiB", everywhere(pages(5 * PAGE), memory=M, hunk_lg2=12)),
    Scenario("hunk-edge", "the first and the last page of a hunk", everywhere([*pages(G), *pages(2 * G - PAGE)])),
    Scenario("first-page", "the first page of the address space", everywhere(pages(0))),
    Scenario(
        "last-page",
        "the last page of the address space",
        tuple(map(_last_page, ("separate", "in-place"))),
    ),
    Scenario(
        "range-2m",
        "an aligned range of 2 MiB, and one that is not",
        (
            *everywhere([(G, G + 2 * M)]),
            *everywhere([(G + 5 * PAGE, G + 2 * M + 5 * PAGE)], ("separate",)),
        ),
    ),
    Scenario(
        "checkerboard",
        "every other page of a stretch",
        everywhere([each for i in range(0, 16, 2) for each in pages(G + i * PAGE)]),
    ),
    Scenario("whole-hunk-round-trip", "a whole hunk there and back", everywhere([(G, 2 * G)])),
    Scenario("two-ranges", "two ranges far apart in one plan", everywhere([*pages(5 * PAGE), (G, G + 2 * M)])),
    Scenario("in-place", "pages whose address stays", everywhere([*pages(G + 7 * PAGE, 9)], ("in-place",))),
    Scenario("separate", "pages whose address changes", everywhere([*pages(G + 7 * PAGE, 9)], ("separate",))),
    Scenario(
        "scattered",
        "shared pages that lie in no order",
        everywhere([*pages(2 * M + 7 * PAGE, 9)], ("scattered",), memory=4 * M, hunk_lg2=21),
    ),
)
