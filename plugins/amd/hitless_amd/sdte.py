"""The secure device table entry, of which firmware keeps one for each device that its guest accepted.

The host does not write it: the guest asks for its contents by a message to firmware. Source: SEV-TIO document 58271.
Fact: AMD-DTE-25.
"""

from hitless.bits import Field, Layout, bit, ignored

_UNKNOWN = "no source that was read has it"

SDTE = Layout(
    "secure DTE",
    "58271",
    (
        bit("V", 0, "valid"),
        ignored(60, 1, _UNKNOWN),
        bit("IR", 61, "read allowed"),
        bit("IW", 62, "write allowed"),
        ignored(240, 63, _UNKNOWN),
        Field("VMPL", 242, 241, "privilege level of the device's requests"),
        ignored(319, 243, _UNKNOWN),
        bit("VTomEn", 320, "requests below vTOM are private, all others shared"),
        Field("vTOM", 351, 321, "first shared address", unit=1 << 21),
        ignored(511, 352, _UNKNOWN),
    ),
    512,
)
