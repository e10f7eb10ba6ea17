#!/usr/bin/env bash
# Functions for scripts/test and scripts/test-lowest, which source this file.

export ORT_DISABLE_TELEMETRY=1 # onnxruntime reads it at import

# Create a virtual environment, unless it is up to date. pip installs the versions in the file $constraints.
# PYTHON selects the interpreter.
environment() { # FOLDER REQUIREMENT...
    local folder=$1 checksum
    shift
    checksum=$(cat pyproject.toml constraints*.txt | sha256sum | cut -c1-16)
    [[ -f "$folder/.checksum" && "$(cat "$folder/.checksum")" == "$checksum" ]] && return
    echo "== environment $folder"
    rm -rf "$folder"
    "${PYTHON:-python3}" -m venv "$folder"
    # Install torch first, by its pinned version: an open request may pick a build with gigabytes of CUDA.
    if [[ "$*" == *train* ]]; then
        "$folder/bin/pip" install -q -c constraints.txt "$(grep '^torch==' constraints.txt)"
    fi
    "$folder/bin/pip" install -q -c "$constraints" "$@"
    echo "$checksum" > "$folder/.checksum"
}
