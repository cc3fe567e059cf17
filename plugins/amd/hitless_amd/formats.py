"""The vendor's page formats, as its features configure them."""

from hitless_amd.features import AmdFeatures
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2


def v1_format(features: AmdFeatures, mode: int) -> AmdV1:
    """The v1 format of these features, with ``mode`` levels."""
    return AmdV1(
        mode,
        width=min(12 + 9 * (4 + features.hats), 64) if features.dynamic_top else None,
        force_coherent=features.force_coherent,
        c_bit=features.c_bit,
        had=features.had,
        leaf_512g=not features.erratum_512g,
        run_mix=features.rewrite_copies,
    )


def v2_format(features: AmdFeatures, levels: int) -> AmdV2:
    """The v2 format of these features, with ``levels`` levels."""
    return AmdV2(levels, sign_extended=features.sign_extended, c_bit=features.c_bit or None, nx=features.nx)
