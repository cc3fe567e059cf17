"""Vectors: recorded operations on page tables, with every word that they led to; replayed, compared, and made."""

from hitless.vectors.making import c_header, make
from hitless.vectors.recording import Recording, read_folder, read_recording
from hitless.vectors.verifying import FileResult, Flips, flip, formats_of, verify

__all__ = [
    "FileResult",
    "Flips",
    "Recording",
    "c_header",
    "flip",
    "formats_of",
    "make",
    "read_folder",
    "read_recording",
    "verify",
]
