"""Has built functions trust a certificate authority of ours, for what they call on loopback."""

from pathlib import Path

import trustme

import rehash


def trust(artifacts: Path, authority: trustme.CA) -> None:
    """Add the authority to the roots, in both forms in which they are built."""
    bundle = artifacts / "certifi" / "cacert.pem"
    bundle.write_bytes(bundle.read_bytes() + b"\n" + authority.cert_pem.bytes())
    folder = artifacts / "ca-certificates"
    if folder.is_dir():
        rehash.rehash(bundle, folder)
