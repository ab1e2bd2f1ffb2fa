"""Splits certifi's root certificates into a folder for OpenSSL; run by the Makefile, not shipped.

OpenSSL finds a certificate in such a folder by its file name, which is a hash of its subject, and
reads only that one. From certifi's single file, it would read all of them for each connection. The
hash is that of X509_NAME_hash(3). It is computed here because the `openssl` command would have to
be run once for each certificate.
"""

import hashlib
import re
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)

# DER tags (X.690); for those of text, also the encoding.
UTF8_STRING, SEQUENCE, SET, VERSION = 0x0C, 0x30, 0x31, 0xA0
TEXTS = {
    UTF8_STRING: "utf-8",
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


def rehash(bundle: Path, folder: Path) -> None:
    """Write each certificate of a bundle into the folder, under OpenSSL's name for it."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    for certificate in CERTIFICATE.findall(bundle.read_text()):
        name = subject_hash(ssl.PEM_cert_to_DER_cert(certificate))
        folder.joinpath(f"{name}.{seen[name]}").write_text(certificate)
        seen[name] += 1


def subject_hash(certificate: bytes) -> str:
    """Return what `openssl x509 -subject_hash` prints for a certificate in DER."""
    [(_, signed)] = _read(certificate)
    [(_, fields), *_] = _read(signed)
    [(first, _), *_] = parts = list(_read(fields))
    # version (optional), serial number, signature algorithm, issuer, validity, subject
    _, subject = parts[5 if first == VERSION else 4]
    canonical = b"".join(_canonical_names(names) for _, names in _read(subject))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _canonical_names(names: bytes) -> bytes:
    """Return a set of names in OpenSSL's canonical form: lower case, white space collapsed."""
    canonical = []
    for _, name in _read(names):
        [(tag, oid), (value_tag, value)] = _read(name)
        if value_tag in TEXTS:
            text = re.sub(r"[ \t-\r]+", " ", value.decode(TEXTS[value_tag]).strip(" \t\n\v\f\r"))
            lower = re.sub("[A-Z]+", lambda letters: letters[0].lower(), text)
            value_tag, value = UTF8_STRING, lower.encode()
        canonical.append(_write(SEQUENCE, _write(tag, oid) + _write(value_tag, value)))
    return _write(SET, b"".join(sorted(canonical)))


def _read(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each DER element."""
    while data:
        tag, length, begin = data[0], data[1], 2
        if length & 0x80:  # the number of length bytes that follow
            begin += length & 0x7F
            length = int.from_bytes(data[2:begin])
        yield tag, data[begin : begin + length]
        data = data[begin + length :]


def _write(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size) + content


if __name__ == "__main__":
    rehash(Path(sys.argv[1]), Path(sys.argv[2]))
