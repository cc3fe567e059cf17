"""The capabilities register, and a device directory in a memory image, from ddtp on."""

import json
import struct
import sys

import pytest

from hitless.cli import main
from hitless_riscv.capabilities import features_of

LEAF, POINTER = 0xD7, 1
"""V R W U A D of a leaf; V of a pointer (Privileged, 10.3)."""


def test_features_follow_the_register():
    """Bit by bit after the register's table: 9 Sv39, 22 MSI_FLAT, 24 AMO_HWAD, 37:32 PAS, 38 PD8, 42 NL, 43 S."""
    nothing = features_of(0)
    assert (nothing["msi_flat"], nothing["hardware_ad"], nothing["widest"]) == (False, False, "sv57")
    assert features_of(1 << 22)["msi_flat"]
    assert features_of(1 << 24)["hardware_ad"]
    assert features_of(1 << 9)["widest"] == "sv39"
    assert features_of(1 << 9 | 1 << 18)["widest"] == "sv48"
    assert [features_of(width << 32)["pas"] for width in (46, 50, 56)] == [46, 56, 56]
    assert features_of(1 << 38)["process_id_bits"] == 8
    assert features_of(1 << 43)["address_range"]
    assert features_of(1 << 42)["non_leaf"]


@pytest.mark.parametrize(
    ("capabilities", "size"), [(None, 64), (1 << 22 | 7 << 9 | 56 << 32, 64), (7 << 9 | 56 << 32, 32)]
)
def test_device_contexts_of_both_sizes(tmp_path, monkeypatch, capsys, capabilities, size):
    """MSI_FLAT decides where the context of device 3 lies; its Sv39x4 table maps one page."""
    image = bytearray(1 << 20)

    def put(pa, *words):
        struct.pack_into(f"<{len(words)}Q", image, pa, *words)

    ddtp = 0x10 << 10 | 2
    iohgatp = 8 << 60 | 5 << 44 | 0x20
    put(0x1_0000 + size * 3, 1, iohgatp)
    put(0x2_0000, 0x24 << 10 | POINTER)
    put(0x2_4000, 0x25 << 10 | POINTER)
    put(0x2_5000 + 8, 0x77 << 10 | LEAF)
    path = tmp_path / "ram"
    path.write_bytes(image)
    options = ["inspect", str(path), "--from", f"riscv/ddt@{ddtp:#x}", "--json", "-"]
    options += [] if capabilities is None else ["--set", f"capabilities={capabilities:#x}"]
    monkeypatch.setattr(sys, "argv", ["hitless", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, found["findings"]
    assert [each["devices"] for each in found["spaces"]] == [["0x3"]]
    assert [(each["iova"], each["size"], each["pa"], each["rights"], each["leaf"]) for each in found["ranges"]] == [
        ("0x1000", "0x1000", "0x77000", "RW", "4K")
    ]
