#!/bin/sh
# Starts finch-train with the libtorch of an installed PyTorch 2.11.
#
#     finch-train.sh [--torch FOLDER] COMMAND ...
#
# FOLDER is a virtual environment, a folder of packages with `torch` in it, or an unpacked libtorch. Without it,
# the first of these that is of the right release: FINCH_LIBTORCH, VIRTUAL_ENV, CONDA_PREFIX, the torch that python3
# would import, LD_LIBRARY_PATH. What is named by --torch or FINCH_LIBTORCH is used or refused, never passed over.
set -u

release=2.11
here=$(dirname -- "$(readlink -f -- "$0")")
looked='' # what was looked at, a line each
found=''

fail() {
  printf 'finch-train.sh: %s\n' "$1" >&2
  [ -z "$looked" ] || printf 'looked at:\n%s' "$looked" >&2
  printf 'PyTorch %s is needed: `pip install torch==%s.0` in a virtual environment, then `%s --torch FOLDER ...`\n' \
    "$release" "$release" "$0" >&2
  exit 3
}

# The folder of the torch that a python would import; nothing of it is run.
imported() {
  "$1" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null
}

# Looks for libtorch in a folder and where a virtual environment, packages or an archive have it.
look() {
  by=$1 folder=$2 python=''
  [ ! -x "$folder/bin/python3" ] || python=$(imported "$folder/bin/python3")
  for place in "$folder" "$folder/lib" "$folder/torch/lib" "${python:-$folder}/lib" \
    "$folder"/lib/python3*/site-packages/torch/lib; do
    [ -f "$place/libtorch_cpu.so" ] || continue
    version=$(cat "$place/../build-version" 2>/dev/null ||
      sed -n "s/^__version__ = ['\"]\(.*\)['\"].*/\1/p" "$place/../version.py" 2>/dev/null)
    looked="$looked  $by: $place holds ${version:-an unknown version}
"
    case $version in
      "$release".*) found=$(CDPATH='' cd -- "$place" && pwd) ;;
    esac
    return
  done
  looked="$looked  $by: no libtorch_cpu.so in or below $folder
"
}

named=''
if [ "${1:-}" = --torch ]; then
  [ $# -ge 2 ] || { echo "finch-train.sh: --torch needs a folder" >&2; exit 2; }
  named=$2
  shift 2
fi
# Only these need libtorch, and not for their help.
needed=no
case ${1:-} in
  run | eval | export | check | bench) needed=yes ;;
esac
for argument in "$@"; do
  case $argument in
    -h | --help) needed=no ;;
  esac
done
[ "$needed" = yes ] || exec "$here/finch-train" "$@"

if [ -n "$named" ]; then
  look --torch "$named"
elif [ -n "${FINCH_LIBTORCH:-}" ]; then
  look FINCH_LIBTORCH "$FINCH_LIBTORCH"
else
  [ -z "${VIRTUAL_ENV:-}" ] || look VIRTUAL_ENV "$VIRTUAL_ENV"
  [ -n "$found" ] || [ -z "${CONDA_PREFIX:-}" ] || look CONDA_PREFIX "$CONDA_PREFIX"
  if [ -z "$found" ]; then
    folder=$(imported python3)
    if [ -n "$folder" ]; then look python3 "$folder"; else looked="$looked  python3: it has no torch, or is not there
"; fi
  fi
  rest=${LD_LIBRARY_PATH:-}:
  while [ -z "$found" ] && [ -n "$rest" ]; do
    [ -z "${rest%%:*}" ] || look LD_LIBRARY_PATH "${rest%%:*}"
    rest=${rest#*:}
  done
fi
[ -n "$found" ] || fail "no PyTorch $release was found"
FINCH_LIBTORCH=$found
export FINCH_LIBTORCH
exec "$here/finch-train" "$@"
