"""The build's folder of root certificates: each is where OpenSSL itself would put it."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

import rehash

KEY = ec.generate_private_key(ec.SECP256R1())
COMMON_NAME, ORGANIZATION = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME


def certificate(subject: x509.Name) -> bytes:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, now, now)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def by_openssl(bundle: Path, folder: Path) -> dict[str, str]:
    """Return the names that `openssl rehash` gives to the certificates of a bundle."""
    folder.mkdir()
    for number, each in enumerate(rehash.CERTIFICATE.findall(bundle.read_text())):
        (folder / f"{number}.pem").write_text(each)
    ended = subprocess.run(["openssl", "rehash", folder], capture_output=True, check=False)
    if ended.returncode:
        pytest.skip("this openssl, perhaps LibreSSL, has no rehash")
    return {link.name: link.read_text() for link in folder.iterdir() if link.is_symlink()}


def by_us(bundle: Path, folder: Path) -> dict[str, str]:
    rehash.rehash(bundle, folder)
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_each_root_has_the_name_that_openssl_gives_it(tmp_path):
    bundle = Path(certifi.where())
    ours = by_us(bundle, tmp_path / "ours")
    assert len(ours) == bundle.read_text().count("BEGIN CERTIFICATE")
    assert ours == by_openssl(bundle, tmp_path / "openssl")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize(
    "subject",
    [
        pytest.param([[(COMMON_NAME, " \t Two  Words\n ", None)]], id="white space"),
        pytest.param([[(COMMON_NAME, "ÉCOLE Straße", None)]], id="letters beyond ASCII"),
        pytest.param([[(COMMON_NAME, "Élan", _ASN1Type.BMPString)]], id="two bytes a letter"),
        pytest.param([[(COMMON_NAME, "Root", _ASN1Type.PrintableString)]], id="printable"),
        pytest.param([[(COMMON_NAME, "x" * 64, None), (ORGANIZATION, "y" * 64, None)]],
                     id="longer than 127 bytes"),
        pytest.param([[(COMMON_NAME, "b", None), (ORGANIZATION, "A", None)]], id="a set of two"),
        pytest.param([], id="no name"),
    ],
)  # fmt: skip
def test_a_name_of_any_form_is_hashed_as_openssl_does(subject, tmp_path):
    name = x509.Name(
        x509.RelativeDistinguishedName(x509.NameAttribute(*attribute) for attribute in names)
        for names in subject
    )
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(certificate(name))
    assert by_us(bundle, tmp_path / "ours") == by_openssl(bundle, tmp_path / "openssl")
