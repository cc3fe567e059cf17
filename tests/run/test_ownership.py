"""Ownership over whole logs: policies, trust, halves, both backings; and what a private page in a large leaf does."""

from collections import Counter
from pathlib import Path

import attrs
import pytest

from hitless.config import check, load, open_registry
from hitless.run import run_log

EXAMPLES = Path(__file__).parents[2] / "examples"


def rows(log, config, backing=None, guest_of=None, *, blocking=False, **options):
    """One row for each domain of an example configuration, perhaps with the guest of another one."""
    loaded = load(str(EXAMPLES / config))
    if guest_of is not None:
        domain = tuple(each for each in loaded.domains if not each.name.startswith("check"))
        loaded = attrs.evolve(loaded, guest=load(str(EXAMPLES / guest_of)).guest, domain=domain)
    if backing is not None:
        loaded = attrs.evolve(loaded, guest=attrs.evolve(loaded.guest, backing=backing))
    if blocking:
        (domain,) = (each for each in loaded.domains if each.features.get("half") == "private")
        domain = attrs.evolve(domain, features={"half": "private"})
        loaded = attrs.evolve(loaded, guest=attrs.evolve(loaded.guest, together=False), domain=(domain,), ioas=())
    registry = open_registry(loaded)
    check(loaded, registry)
    return {row.domain: row for row in run_log(loaded, registry, EXAMPLES / log, **options).rows}


@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_the_short_log_under_every_policy_and_trust(backing):
    """All zeros, and every plan right; what is refused is a smash without an engine, and is counted."""
    found = rows("short.log", "ownership.toml", backing, check="all")
    expected = {"trusted": Counter({"amd.trusted-smash": 7})}
    for name in ("match", "wipe", "trusted", "trusted-engine"):
        row = found[name]
        assert not row.violations, name
        assert not row.check_violations, name
        assert row.refused == expected.get(name, Counter()), name
        assert row.dma.near > 0, name
        assert row.fenced == [], name


@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_the_short_log_under_the_gpt_and_both_halves_of_a_realm(backing):
    """All zeros, and every plan right; what is refused is an unfold by break-before-make, and is counted."""
    found = rows("short.log", "realm.toml", backing, check="all")
    expected = {"protected-bbm": Counter({"arm_smmu.rmm-unfold": 16})}
    assert set(found) == {"check", "wipe", "trusted", "protected", "unprotected", "protected-bbm"}
    for name, row in found.items():
        assert not row.violations, name
        assert not row.check_violations, name
        assert row.refused == expected.get(name, Counter()), name
        assert row.fenced == [], name
        assert row.dma.neighbour > 0 or name == "protected-bbm", name


@pytest.mark.slow
@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_the_long_log_under_every_policy_and_trust(backing):
    """The first conversions of the long log: the same."""
    found = rows("guest-16g.log.gz", "ownership.toml", backing, "all-vendors.toml", limit=600, check="sampled")
    for row in found.values():
        assert not row.violations, row.domain
        assert not row.check_violations, row.domain
        assert set(row.refused) <= ({"amd.trusted-smash"} if row.domain == "trusted" else set())
    assert found["trusted"].refused["amd.trusted-smash"] > 0


@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_both_halves_of_a_trust_domain(backing):
    """A stranger, and both halves of a trusted device, in one guest: all zeros, every plan right, nothing refused."""
    found = rows("short.log", "trust-domain.toml", backing, check="all")
    assert set(found) == {"stranger", "shared", "private"}
    for row in found.values():
        assert not row.violations, row.domain
        assert not row.check_violations, row.domain
        assert row.refused == Counter()
        assert row.dma.near > 0, row.domain
    assert found["private"].leaves[30] > 0
    assert 30 not in found["shared"].leaves
    assert found["shared"].leaves == found["stranger"].leaves


@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_demotes_that_block_are_refused_and_counted(backing):
    """By itself the private half of a module that blocks refuses what it would have to demote; nothing else breaks."""
    row = rows("short.log", "trust-domain.toml", backing, check="all", blocking=True)["private"]
    assert row.refused == Counter({"intel.tdx-demote": 16})
    assert not row.violations
    assert not row.check_violations


@pytest.mark.slow
@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_the_long_log_in_both_halves(backing):
    """The first conversions of the long log: all zeros."""
    found = rows("guest-16g.log.gz", "trust-domain.toml", backing, limit=600, check="sampled")
    for row in found.values():
        assert not row.violations, row.domain
        assert not row.check_violations, row.domain
        assert row.refused == Counter()


@pytest.mark.parametrize("backing", ["in-place", "separate"])
def test_both_halves_under_one_table(backing):
    """vTOM: all zeros, and every plan right; without an engine what would smash a private 2M entry is refused."""
    found = rows("short.log", "private-below.toml", backing, check="all")
    refused = {"no-engine": Counter({"amd.trusted-smash": 7})}
    assert set(found) == {"halves", "no-engine"}
    for name, row in found.items():
        assert not row.violations, name
        assert not row.check_violations, name
        assert row.refused == refused.get(name, Counter()), name
        assert row.fenced == [], name
        assert row.dma.near > 0, name
        assert row.dma.converted > 0, name


def test_one_private_page_breaks_the_shared_pages_beside_it():
    """Relying on the check alone, DMA to shared pages in the same 2M fails; nothing lands elsewhere."""
    row = rows("one-private-page.log", "one-private-page.toml")["check"]
    assert row.dma.neighbour_faults > 0
    assert row.dma.neighbour_misrouted == 0
    assert row.leaves == {21: 32}


def test_leaves_that_end_at_the_owner_mend_it():
    """One leaf is cut, 31 stay large, and no DMA to a shared page fails."""
    row = rows("one-private-page.log", "one-private-page.toml")["refresh"]
    assert not row.violations
    assert row.leaves == {21: 31, 12: 512}
    assert (row.cuts, row.tables) == (1, 4)


def test_4k_leaves_mend_it_at_their_price():
    """Nothing is ever cut, and 64 MiB take 16,384 leaves in 32 tables more than the root and its table."""
    row = rows("one-private-page.log", "one-private-page.toml")["4k-only"]
    assert not row.violations
    assert row.leaves == {12: 64 << 20 >> 12}
    assert (row.cuts, row.tables) == (0, 3 + 32)
