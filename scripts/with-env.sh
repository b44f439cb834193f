#!/bin/sh
# Run a command in the project's own environment; make the environment first if it is not there.
#
#   sh scripts/with-env.sh mskt run --segmenter unet_bayes --uncertainty mcdropout --out mskt-out
#
# Everything is installed into .venv from requirements.lock (exact versions, hashes checked).
# PYTHON chooses the interpreter (3.11 or newer); VENV another place for the environment.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${VENV:-"$here/.venv"}
python=${PYTHON:-python3}

stamp=$(cat "$here/requirements.lock" "$here/pyproject.toml" | cksum)
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.mskt-stamp" 2>/dev/null)" != "$stamp" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "mskt needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1)." >&2
        echo "Install one, or name it: PYTHON=python3.12 sh $0 ..." >&2
        exit 2
    }
    echo "Setting up $venv (once; about 5 GB with the GPU libraries of torch) ..." >&2
    # Hospital networks often have certificates of their own; take those that the system trusts.
    UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
    export UV_SYSTEM_CERTS
    # An environment of another Python, or of one that is gone, is made anew; no other folder is cleared.
    version='import sys; print(sys.version_info[:2])'
    clear=
    if [ -f "$venv/pyvenv.cfg" ] && [ "$("$venv/bin/python" -c "$version" 2>/dev/null)" != "$("$python" -c "$version")" ]; then
        clear=--clear
    fi
    "$python" -m venv $clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$here/requirements.lock"
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e "$here"
    echo "$stamp" > "$venv/.mskt-stamp"
fi
PATH="$venv/bin:$PATH"
VIRTUAL_ENV=$venv  # else tools find the environment that the caller has activated
export PATH VIRTUAL_ENV
cd "$here"
exec "$@"
