"""The RMP bit for bit, beside the positions that the specification and Linux give: no layout is used here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import BadInput
from hitless.ownership import FIRMWARE, GUEST, HOST, OTHER_GUEST, OwnerTable
from hitless_amd.rmp import RawRmp

PAGE, M2 = 4096, 2 << 20
BASE, SCRATCH = 0x7000000000, 0x4000
PA = 0x40000000


def words_of(raw, table, start, end):
    """The words that a range's entries hold, by address."""
    return {
        entry.pa + 8 * i: word
        for entry in raw.entries(table, BASE, start, end, gpa=lambda pa: pa - 0x10000000)
        for i, word in enumerate(entry.words)
    }


def entry_pa(pa):
    """16 bytes for each page, behind the CPU's 16 KiB."""
    return BASE + SCRATCH + pa // PAGE * 16


def test_a_guests_page_on_family_19h():
    """assigned, GPA[50:12], ASID in 60:51 and validated, in the low word; the page size bit is clear."""
    table = OwnerTable()
    table.set(PA + PAGE, PA + 2 * PAGE, GUEST, 12)
    words = words_of(RawRmp("family-19h", 5), table, PA + PAGE, PA + 2 * PAGE)
    assert words == {
        entry_pa(PA + PAGE): 1 | (PA + PAGE - 0x10000000) | 5 << 51 | 1 << 62,
        entry_pa(PA + PAGE) + 8: 0,
    }


def test_a_2m_entry_stands_once_and_decides_for_all():
    """One entry at the 2M-aligned page with the size bit; it is read for each of its pages, whatever theirs hold."""
    table = OwnerTable()
    table.set(PA, PA + M2, GUEST, 21)
    words = words_of(RawRmp("family-19h", 5), table, PA + 7 * PAGE, PA + 8 * PAGE)
    assert words == {entry_pa(PA): 3 | (PA - 0x10000000) | 5 << 51 | 1 << 62, entry_pa(PA) + 8: 0}
    memory = {**words, entry_pa(PA + 8 * PAGE): 1 | 9 << 51}
    read = RawRmp("family-19h", 5).read(lambda pa: memory.get(pa, 0), BASE, PA, PA + M2)
    assert list(read.entries(PA, PA + M2)) == [(PA, PA + M2, GUEST, 21)]


def test_what_rmpread_gives():
    """GPA in word 0; assigned 0, size 8, region status 9, immutable 16 and ASID 63:32 in word 1."""
    table = OwnerTable()
    table.set(PA, PA + PAGE, GUEST, 12)
    table.set(PA + PAGE, PA + 2 * PAGE, FIRMWARE, 12)
    words = words_of(RawRmp("rmpread", 5), table, PA, PA + 3 * PAGE)
    assert [words[entry_pa(PA)], words[entry_pa(PA) + 8]] == [PA - 0x10000000, 1 | 1 << 9 | 5 << 32]
    assert words[entry_pa(PA + PAGE) + 8] == 1 | 1 << 9 | 1 << 16
    assert words[entry_pa(PA + 2 * PAGE) + 8] == 1 << 9


@pytest.mark.parametrize("form", ["family-19h", "rmpread"])
@given(data=st.data())
def test_what_is_written_is_read(form, data):
    """Any mixture of owners and sizes comes back from its own words."""
    table = OwnerTable()
    for block in range(3):
        start = PA + block * M2
        kind = data.draw(st.sampled_from(["host", "large", "pages"]))
        if kind == "large":
            table.set(start, start + M2, data.draw(st.sampled_from([GUEST, OTHER_GUEST])), 21)
        for page in data.draw(st.sets(st.integers(0, 511), max_size=5)) if kind == "pages" else ():
            owner = data.draw(st.sampled_from([GUEST, OTHER_GUEST, FIRMWARE]))
            table.set(start + page * PAGE, start + (page + 1) * PAGE, owner, 12)
    raw = RawRmp(form, 7)
    words = words_of(raw, table, PA, PA + 3 * M2)
    read = raw.read(lambda pa: words.get(pa, 0), BASE, PA, PA + 3 * M2)
    assert list(read.entries(PA, PA + 3 * M2)) == list(table.entries(PA, PA + 3 * M2))


@pytest.mark.parametrize(
    ("word", "why"),
    [(1 << 51, "do not go together"), (1, "do not go together"), (1 | 5 << 51 | 1 << 4, "reserved")],
)
def test_an_entry_that_means_nothing_is_bad_input(word, why):
    """An ASID without assigned, assigned without ASID or immutable, a reserved bit: named, not guessed at."""
    with pytest.raises(BadInput) as caught:
        RawRmp("family-19h", 5).read(lambda pa: word if pa == entry_pa(PA) else 0, BASE, PA, PA + PAGE)
    assert why in str(caught.value)
    assert hex(entry_pa(PA)) in str(caught.value)


def test_an_unknown_form_is_an_error():
    """Nobody guesses what the bits of another form mean."""
    with pytest.raises(KeyError):
        RawRmp("family-1ah", 5)


def test_a_page_that_no_entry_names_is_the_hosts():
    """All words 0: the hypervisor's, in 4K entries."""
    read = RawRmp("family-19h", 5).read(lambda _pa: 0, BASE, PA, PA + M2)
    assert list(read.entries(PA, PA + M2)) == [(PA, PA + M2, HOST, 12)]
