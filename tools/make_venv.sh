#!/usr/bin/env bash
# Makes the environment VENV for PYTHON, installs headrace and its test tools, and leaves
# the stamp VENV/.installed. Without PYTHON: the newest of 3.14 ... 3.11 on this machine.
# usage: tools/make_venv.sh VENV [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "headrace: $*" >&2; exit 1; }

need_ensurepip() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    local package
    package="$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "headrace: installing $package, which Debian leaves out of its Python"
        apt-get install -y -qq "$package" >/dev/null ||
            { apt-get update -qq && apt-get install -y -qq "$package" >/dev/null; } ||
            fail "$package could not be installed; install it, then repeat the command."
    else
        fail "$1 cannot make virtual environments; install $package (Debian, Ubuntu) first."
    fi
}

venv="${1:?usage: tools/make_venv.sh VENV [PYTHON]}"
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python="${2:-$(tools/find_python.sh)}" ||
        fail "Python 3.11 or newer is needed, and none was found on the PATH."
    need_ensurepip "$python"
    echo "headrace: making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
echo "headrace: installing into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' ||
    fail "the packages named in pyproject.toml could not be installed (see above)."
touch "$venv/.installed"
