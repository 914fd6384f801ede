#!/bin/sh
# The image's base layer: Debian's Python, unpacked and not configured, so that no base image is pulled.
# mkbase.sh OUT.tar; the mirror is the one that this machine uses. (The variant `extract` runs extract hooks only.)
set -eu
OUT=$1
# shellcheck disable=SC2016 # apt expands it
MIRROR=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: bookworm" | head -n1)
[ -n "$MIRROR" ] || { echo "apt on this machine knows no mirror of Debian bookworm" >&2; exit 1; }
EXCLUDE=
for folder in doc man locale info lintian; do EXCLUDE="$EXCLUDE --dpkgopt=path-exclude=/usr/share/$folder/*"; done
# What compileall itself imports is compiled anew too (-f), and not beside it: times are set to 0 here, and modules whose
# bytecode goes by times would be compiled again in every process of every container.
# The user of our containers, 65532, has no name here, as in any other base image: nothing may ask for one.
# shellcheck disable=SC2086,SC2016 # the options are words; the hooks are expanded by mmdebstrap's shell
mmdebstrap --quiet --variant=extract --skip=output/dev --aptopt='APT::Install-Recommends "false"' $EXCLUDE \
  --include=python3,python3-minimal,libstdc++6,ca-certificates,dash,bash,coreutils,sed,grep,libc-bin,base-files,tzdata \
  --extract-hook='PYTHONDONTWRITEBYTECODE=1 chroot "$1" /usr/bin/python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.11 /usr/lib/python3 || true' \
  --extract-hook='ln -s python3 "$1/usr/bin/python"' \
  --extract-hook='printf "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" > "$1/etc/passwd"' \
  --extract-hook='printf "root:x:0:\nnogroup:x:65534:\n" > "$1/etc/group"' \
  --extract-hook='mkdir -p "$1/etc/ssl/certs"; cat "$1"/usr/share/ca-certificates/mozilla/*.crt > "$1/etc/ssl/certs/ca-certificates.crt"' \
  --extract-hook='rm -rf "$1"/var/lib/apt "$1"/var/lib/dpkg/info "$1"/var/cache/apt "$1"/etc/apt/sources.list' \
  bookworm "$OUT" "$MIRROR"
