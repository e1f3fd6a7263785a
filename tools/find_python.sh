#!/usr/bin/env bash
# Prints the path of a Python that runs; fails without a word when there is none.
# usage: tools/find_python.sh VERSION (as 3.12), or without: the newest of 3.14 ... 3.11
set -euo pipefail

# A shim of pyenv is on the PATH for every version it has, but runs only the selected ones.
runs() { "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null; }

of_version() {
    local candidate
    for candidate in "$(command -v "python$1")" "$(command -v python3)" \
        "${PYENV_ROOT:-${HOME:-/}/.pyenv}/versions/$1".*/bin/python; do
        if [ -x "$candidate" ] && runs "$candidate" "$1"; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

for version in ${1:-3.14 3.13 3.12 3.11}; do
    if of_version "$version"; then exit 0; fi
done
exit 1
