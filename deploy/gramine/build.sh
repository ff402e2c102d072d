#!/usr/bin/env bash
# Render and sign the manifest of one enclave: build.sh MODULE:CLASS PACKAGE_DIRECTORY SIGNING_KEY.pem
# Needs Gramine 1.9 or later on an SGX machine with DCAP. Settings: ENCLAVE_SIZE, PRODUCT, SECURITY_VERSION, OUT,
# and EXTRAS=attestation for an enclave that hands its store over to other SGX or TDX enclaves, or takes one.
set -euo pipefail
enclave=${1:?MODULE:CLASS} package=${2:?directory of the package that holds it} key=${3:?RSA-3072 key, exponent 3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
out=${OUT:-$PWD/build-sgx}
mkdir -p "$out"

# Only what the enclave needs is in its environment, in the versions of the lock: every file in it is trusted code.
python3 -m venv --copies "$out/venv"
sed -n 's/^\([A-Za-z0-9._-]*==[^ ;]*\).*/\1/p' "$project/requirements.lock" > "$out/constraints.txt"
"$out/venv/bin/pip" install --quiet --no-compile --constraint "$out/constraints.txt" "$project${EXTRAS:+[$EXTRAS]}" "$package"
"$out/venv/bin/pip" uninstall --quiet --yes pip setuptools || true

gramine-manifest \
    -Denclave="$enclave" \
    -Dvenv="$out/venv" \
    -Dpython="$out/venv/bin/python3" \
    -Dpython_stdlib="$("$out/venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    -Darch_libdir="/lib/$(gcc -dumpmachine)" \
    -Denclave_size="${ENCLAVE_SIZE:-1G}" \
    -Dproduct="${PRODUCT:-1}" \
    -Dsecurity_version="${SECURITY_VERSION:-1}" \
    "$here/pmap.manifest.template" "$out/pmap.manifest"
gramine-sgx-sign --manifest "$out/pmap.manifest" --output "$out/pmap.manifest.sgx" --key "$key"
gramine-sgx-sigstruct-view "$out/pmap.sig"
echo "For clients: the constraint C:<mr_enclave>, or S:<mr_signer> PROD:${PRODUCT:-1}, of the lines above."
