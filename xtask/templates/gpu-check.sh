#!/usr/bin/env bash
# Tests dlbridge on this machine's GPU, and measures it. Needs python3 with pip, PyTorch, NumPy and CuPy; what needs
# JAX is skipped where that is missing. Writes to results/, or to $DLBRIDGE_RESULTS.
#
# `run pytest`, `run rust` and `run bandwidth` do one part. Fails if a part does; the others run all the same.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
results=${DLBRIDGE_RESULTS:-$PWD/results}
site=$(mktemp -d) || exit
trap 'rm -rf "$site"' EXIT
mkdir -p "$results" || exit

python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --target "$site" wheels/*.whl || exit
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
# Plugins that happen to be there may not be for this pytest.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONDONTWRITEBYTECODE=1
# JAX would take most of the device's memory for itself.
export XLA_PYTHON_CLIENT_PREALLOCATE=false

machine() {
  nvidia-smi
  nvidia-smi --query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current --format=csv
  uname -srm
  grep -m 1 "model name" /proc/cpuinfo
  echo "$(nproc) cores"
  python3 --version
  python3 - <<'END'
from importlib.metadata import PackageNotFoundError, version

for name in "dlbridge torch numpy cupy-cuda13x cupy-cuda12x jax jaxlib jax-cuda13-plugin jax-cuda12-plugin".split():
    try:
        print(name, version(name))
    except PackageNotFoundError:
        pass
END
}

pytest() {
  python3 -m pytest tests -q -rs --durations=10 -p no:cacheprovider -o faulthandler_timeout=120
}

rust() {
  local libraries
  libraries=$(python3 - <<'END'
import glob
import os

import torch

folder = os.path.dirname(torch.__file__)
if torch.__version__.startswith("{{libtorch}}."):
    print(":".join([f"{folder}/lib", *glob.glob(f"{os.path.dirname(folder)}/nvidia/*/lib")]))
END
  ) || return
  if [ -z "$libraries" ]; then
    echo "skipped: the program is for PyTorch {{libtorch}}"
    return
  fi
  DLBRIDGE_EXPECTS_CUDA=1 LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ./torch
}

bandwidth() {
  python3 bandwidth.py
}

failed=
# Runs a part, shows what it prints, and keeps it.
part() {
  echo "== $1"
  "$1" 2>&1 | tee "$results/$2" || failed+=" $1"
}

parts=" ${*:-pytest rust bandwidth} "
part machine machine.txt
for name in pytest rust bandwidth; do
  case $parts in *" $name "*) ;; *) continue ;; esac
  case $name in bandwidth) part bandwidth bandwidth.md ;; *) part "$name" "$name.txt" ;; esac
done
if [ -n "$failed" ]; then
  echo "failed:$failed"
  exit 1
fi
