"""Makes of certifi's root certificates a folder for OpenSSL's look-up; run by the Makefile.

OpenSSL finds a certificate in such a folder by its name, a hash of its subject, and reads it
alone; source: openssl-rehash(1). The one file of certifi it would read whole, for each connection.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


def rehash(bundle: Path, folder: Path) -> None:
    """Write each certificate of a bundle into the folder, under OpenSSL's name for it."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    for certificate in CERTIFICATE.findall(bundle.read_text()):
        name = subprocess.run(
            ["openssl", "x509", "-noout", "-subject_hash"],  # noqa: S607  wherever PATH says
            input=certificate,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        folder.joinpath(f"{name}.{seen[name]}").write_text(certificate)
        seen[name] += 1


if __name__ == "__main__":
    rehash(Path(sys.argv[1]), Path(sys.argv[2]))
