#!/usr/bin/env bash
# Runs the tests on every Python 3.11-3.14 of this machine, each in .venvs/VERSION.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=() passed=() absent=()
for version in 3.11 3.12 3.13 3.14; do
    if ! python="$(tools/find_python.sh "$version")"; then
        absent+=("$version")
        continue
    fi
    venv=".venvs/$version"
    if [ pyproject.toml -nt "$venv/.installed" ]; then
        tools/make_venv.sh "$venv" "$python"
    fi
    echo "headrace: tests on Python $version"
    if "$venv/bin/python" -m pytest -q "$@"; then passed+=("$version"); else failed+=("$version"); fi
done
echo "passed: ${passed[*]:-none} · failed: ${failed[*]:-none} · not installed: ${absent[*]:-none}"
[ ${#failed[@]} -eq 0 ] && [ ${#passed[@]} -gt 0 ]
