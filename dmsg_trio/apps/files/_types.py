"""What a file is, by its name; the same on every machine, whatever is installed there."""

from __future__ import annotations

import os
from mimetypes import MimeTypes
from typing import Final

UNKNOWN: Final = "application/octet-stream"

_TABLE: Final = MimeTypes(filenames=())
_SOURCES: Final = """
    .adoc .awk .bash .bat .c .cc .cfg .cmake .conf .cpp .cs .cxx .dart .diff .env .erl .ex .exs .fish .go .gradle .h .hh
    .hpp .hs .hxx .ini .ipynb .java .jl .jsonl .kt .kts .less .lock .log .lua .m .mk .ml .ndjson .nim .nix .org .patch
    .pem .php .pl .po .pot .properties .proto .ps1 .pub .py .pyi .r .rb .rs .rst .sass .scala .scss .sh .sql .srt
    .swift .tcl .tex .tf .toml .tsx .vim .vue .zig .zsh
"""
_OTHERS: Final = {
    ".7z": "application/x-7z-compressed",
    ".apk": "application/vnd.android.package-archive",
    ".avif": "image/avif",
    ".br": "application/x-brotli",
    ".bz2": "application/x-bzip2",
    ".deb": "application/vnd.debian.binary-package",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".ico": "image/vnd.microsoft.icon",
    ".iso": "application/x-iso9660-image",
    ".js": "text/javascript",
    ".map": "application/json",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mkv": "video/x-matroska",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".rar": "application/vnd.rar",
    ".tgz": "application/gzip",
    ".ts": "video/mp2t",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
_PAPERS: Final = """
    authors changelog changes copying dockerfile license licence makefile news notice readme todo version
"""
# What shrinks and is no "text/".
_ALSO_SHRINK: Final = {
    "application/json", "application/manifest+json", "application/wasm", "application/xml",
    "application/yaml", "image/svg+xml",
}  # fmt: skip
_TEXTS: Final = frozenset(_SOURCES.split())  # extensions
_TEXT_NAMES: Final = frozenset(_PAPERS.split())  # names without one
_PAGES: Final = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml"})


def type_of(name: bytes) -> str:
    """Say of which type a file with this name is, without parameters."""
    lower = os.fsdecode(name).lower()
    _, extension = os.path.splitext(lower)
    if extension in _TEXTS or lower in _TEXT_NAMES:
        return "text/plain"
    return _OTHERS.get(extension) or _TABLE.types_map[True].get(extension, UNKNOWN)


def content_type_of(name: bytes) -> str:
    """Say the type of a file as the header has it."""
    content_type = type_of(name)
    return f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type


def can_shrink(name: bytes) -> bool:
    """Tell whether it is worth the time to compress such a file."""
    content_type = type_of(name)
    return content_type.startswith("text/") or content_type in _ALSO_SHRINK


def runs_scripts(name: bytes) -> bool:
    """Tell whether a browser runs programs that stand in such a file."""
    return type_of(name) in _PAGES or type_of(name).endswith("xml")
