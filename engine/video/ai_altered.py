"""The machine-readable mark that every output carries: these pictures were altered by AI.

Videos get container metadata (all containers) and, for mp4 and mov, the XMP property that IPTC defines for
it; pictures get the same XMP. Readers: `ffprobe`, `exiftool`, or `is_marked` below.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = [
    "AI_ALTERED_COMMENT",
    "AI_ALTERED_KEY",
    "AI_ALTERED_VALUE",
    "DIGITAL_SOURCE_TYPE",
    "DIGITAL_SOURCE_TYPE_KEY",
    "append_xmp_box",
    "container_tags",
    "is_marked",
    "jpeg_with_xmp",
    "png_with_xmp",
]

#: IPTC's term for a picture composed of captured and AI-made parts.
DIGITAL_SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
AI_ALTERED_KEY: Final = "ai_altered"
AI_ALTERED_VALUE: Final = "true"
DIGITAL_SOURCE_TYPE_KEY: Final = "digital_source_type"
AI_ALTERED_COMMENT: Final = f"AI-altered: faces were changed by a neural network. {DIGITAL_SOURCE_TYPE}"

_XMP: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
).encode()
# The extended type under which XMP lies in ISO base media files (XMP specification, part 3).
_XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_END: Final = len(_PNG_SIGNATURE) + 25  # signature and the IHDR chunk
_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"


def container_tags(existing: Mapping[str, str]) -> dict[str, str]:
    """The tags to set beside `existing` container metadata; its comment is kept in front of ours."""
    key = next((key for key in existing if key.lower() == "comment"), "comment")
    comment = existing.get(key, "")
    if AI_ALTERED_COMMENT not in comment:
        comment = f"{comment} | {AI_ALTERED_COMMENT}" if comment else AI_ALTERED_COMMENT
    return {key: comment, AI_ALTERED_KEY: AI_ALTERED_VALUE, DIGITAL_SOURCE_TYPE_KEY: DIGITAL_SOURCE_TYPE}


def is_marked(metadata: Mapping[str, str]) -> bool:
    """True if container metadata, as PyAV or ffprobe read it, carries the mark.

    By the key of its own (in any case: mkv writes capitals), or, where a container has no room for one,
    by IPTC's term in the comment.
    """
    return any(
        (key.lower() == AI_ALTERED_KEY and value == AI_ALTERED_VALUE) or DIGITAL_SOURCE_TYPE in value
        for key, value in metadata.items()
    )


def append_xmp_box(path: Path) -> None:
    """Append the XMP box to a finished mp4 or mov file; players skip it. Raises OSError."""
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(_XMP_UUID) + len(_XMP), b"uuid") + _XMP_UUID + _XMP)


def png_with_xmp(png: bytes) -> bytes:
    """The PNG with the XMP as its first text chunk."""
    body = b"iTXt" + b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + _XMP
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_HEADER_END] + chunk + png[_PNG_HEADER_END:]


def jpeg_with_xmp(jpeg: bytes) -> bytes:
    """The JPEG with the XMP as an APP1 segment behind the JFIF header."""
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(_JPEG_XMP) + len(_XMP)) + _JPEG_XMP + _XMP
    behind = 2
    if jpeg[2:4] == b"\xff\xe0":  # JFIF wants its APP0 first
        behind = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:behind] + segment + jpeg[behind:]
