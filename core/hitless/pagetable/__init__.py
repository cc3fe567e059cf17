"""Page tables: the format vocabulary, the walk, and layouts as text."""

from hitless.pagetable.bulk import Translations, translate_many
from hitless.pagetable.format import READ, WRITE, Leaf, LeafSize, Level, PageFormat, Position, WalkFault
from hitless.pagetable.layout import Mapping, format_layout, parse_layout
from hitless.pagetable.table import count_leaves, entry_pa, table_leaves, tables, tables_below, translate, walk

__all__ = [
    "READ",
    "WRITE",
    "Leaf",
    "LeafSize",
    "Level",
    "Mapping",
    "PageFormat",
    "Position",
    "Translations",
    "WalkFault",
    "count_leaves",
    "entry_pa",
    "format_layout",
    "parse_layout",
    "table_leaves",
    "tables",
    "tables_below",
    "translate",
    "translate_many",
    "walk",
]
