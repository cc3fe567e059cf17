"""Bits by their positions, typed from the specification's tables (IHI0070 4, 5.2, 5.4, 7.3; DDI0487 D8).

Shares nothing with the plugin: an address goes where it stands, every other value to the field's lowest bit.
"""

STE = """
0: V 0, Config 3:1, S1Fmt 5:4, S1ContextPtr 51:6, S1CDMax 63:59
1: S1DSS 1:0, S1CIR 3:2, S1COR 5:4, S1CSH 7:6, MEV 19, S1PIE 24, S2FWB 25, S1STALLD 27, EATS 29:28, STRW 31:30
1: SHCFG 45:44
2: S2VMID 15:0, S2T0SZ 37:32, S2SL0 39:38, S2IR0 41:40, S2OR0 43:42, S2SH0 45:44, S2TG 47:46, S2PS 50:48, S2AA64 51
2: S2ENDI 52, S2AFFD 53, S2PTW 54, S2HD 55, S2HA 56, S2S 57, S2R 58
3: S2NSW 0, S2NSA 1, S2SL0_2 2, S2DS 3, S2TTB 51:4
4: MECID 63:48
"""
CD = """
0: T0SZ 5:0, TG0 7:6, IR0 9:8, OR0 11:10, SH0 13:12, EPD0 14, ENDI 15, T1SZ 21:16, TG1 23:22, IR1 25:24, OR1 27:26
0: SH1 29:28, EPD1 30, V 31, IPS 34:32, AFFD 35, WXN 36, UWXN 37, TBI 39:38, PAN 40, AA64 41, HD 42, HA 43, S 44, R 45
0: A 46, ASET 47, ASID 63:48
1: NSCFG0 0, HAD0 1, TTB0 51:4
2: TTB1 51:4, DS 58, PIE 59
3: MAIR0 31:0, MAIR1 63:32
"""
RANGE = "NUM 16:12, SCALE 25:20, Leaf 64, TTL128 71, TTL 73:72, TG 75:74, address 127:76"
COMMANDS = {
    "CFGI_STE": "op=03, SSec 10, SID 63:32, Leaf 64",
    "CFGI_STE_RANGE": "op=04, SSec 10, SID 63:32, Range 68:64",
    "CFGI_CD": "op=05, SSec 10, SSID 31:12, SID 63:32, Leaf 64",
    "CFGI_CD_ALL": "op=06, SSec 10, SID 63:32",
    "TLBI_NH_ALL": "op=10, VMID 47:32",
    "TLBI_NH_ASID": "op=11, VMID 47:32, ASID 63:48",
    "TLBI_NH_VA": f"op=12, VMID 47:32, ASID 63:48, {RANGE}",
    "TLBI_NH_VAA": f"op=13, VMID 47:32, {RANGE}",
    "TLBI_EL2_ALL": "op=20",
    "TLBI_S12_VMALL": "op=28, VMID 47:32",
    "TLBI_S2_IPA": f"op=2A, VMID 47:32, {RANGE}",
    "TLBI_NSNH_ALL": "op=30",
    "ATC_INV": "op=40, G 9, SSV 11, SSID 31:12, SID 63:32, Size 69:64, address 127:76",
    "RESUME": "op=44, SSec 10, response 13:12, SID 63:32, STAG 79:64",
    "SYNC": "op=46, CS 13:12, MSH 23:22, MSIAttr 27:24, MSIData 63:32, MSIAddress 119:66",
}
EVENT = """
0: code 7:0, SSV 11, SSID 31:12, SID 63:32
1: STAG 15:0, GPCF 16, Stall 31, PnU 33, InD 34, RnW 35, S2 39, CLASS 41:40, TTRnW 44
2: input 63:0
3: IPA 51:12, FetchAddr 51:3
"""
ADDRESSES = {"S1ContextPtr", "S2TTB", "TTB0", "TTB1", "address", "MSIAddress", "IPA", "FetchAddr"}

Bits = dict[str, tuple[int, int]]


def positions(table: str) -> Bits:
    """First and last bit of each field; a line may begin with its word's number."""
    found: Bits = {}
    for line in filter(None, table.strip().splitlines()):
        word, _, fields = line.rpartition(": ") if line[:1].isdigit() and line[1:2] == ":" else ("0", "", line)
        for each in fields.split(", "):
            if "=" in each:
                continue
            name, bits = each.split(" ")
            hi, _, lo = bits.partition(":")
            base = 64 * int(word)
            found[name] = (base + int(hi), base + int(lo or hi))
    return found


def pack(table: str, words: int, **values: int) -> tuple[int, ...]:
    """64-bit words with these fields, low word first; what is not named is 0."""
    at, whole = positions(table), 0
    for name, value in values.items():
        hi, lo = at[name]
        number = value >> lo % 64 if name in ADDRESSES else value
        assert 0 <= number < 1 << hi - lo + 1, (name, value)
        whole |= number << lo
    return tuple(whole >> 64 * i & (1 << 64) - 1 for i in range(words))


def unpack(table: str, words: tuple[int, ...]) -> dict[str, int]:
    """Every field of some words."""
    whole = sum(word << 64 * i for i, word in enumerate(words))
    found = {}
    for name, (hi, lo) in positions(table).items():
        value = whole >> lo & (1 << hi - lo + 1) - 1
        found[name] = value << lo % 64 if name in ADDRESSES else value
    return found


def ste(**values: int) -> tuple[int, ...]:
    """A stream table entry."""
    return pack(STE, 8, **values)


def cd(**values: int) -> tuple[int, ...]:
    """A context descriptor."""
    return pack(CD, 8, **values)


def command(name: str, **values: int) -> tuple[int, ...]:
    """A command, opcode included."""
    low, high = pack(COMMANDS[name], 2, **values)
    return low | int(COMMANDS[name][3:5], 16), high


def event(**values: int) -> tuple[int, ...]:
    """An event."""
    return pack(EVENT, 4, **values)


def descriptor(kind: int, address: int, *, ds: bool = False, lpa: bool = False, bits: int = 0) -> int:
    """A descriptor of type ``kind`` (bits 1:0) with an address, in one piece or in two."""
    if ds:
        return kind | address & ((1 << 50) - 1) & ~0xFFF | (address >> 50) << 8 | bits
    if lpa:
        return kind | address & ((1 << 48) - 1) & ~0xFFFF | (address >> 48) << 12 | bits
    return kind | address | bits
