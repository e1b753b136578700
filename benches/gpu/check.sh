#!/bin/sh
# Does this card compute what it should? Two minutes, before anything is timed.
#
#     check.sh [FINCH_TRAIN] [LIGER]
#
# FINCH_TRAIN is the program or the archive's finch-train.sh; LIGER a folder that holds the package liger_kernel. The
# trainer compares itself with automatic differentiation in double precision, on the card, in f32 and bf16, and flash
# attention with attention by the formula. The opponent compares packed documents with each alone.
set -eu

here=$(dirname -- "$0")
finch_train=${1:-$here/../../target/release/finch-train}
liger=${2:-}
device=${DEVICE:-cuda}

if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
fi
"$finch_train" --version
"$finch_train" check --device "$device"

opponent() {
  echo "opponent ${*:-as it is}:"
  PYTHONPATH=${liger:+$liger:}${PYTHONPATH:-} python3 "$here/opponent.py" "$here/models/tiny.json" --tokens 1000 \
    --document 130 --trained 0.4 --device "$device" --check "$@"
}
opponent --dtype bf16
opponent --dtype bf16 --ckpt --micro 260
opponent --dtype bf16 --compile
[ -z "$liger" ] || opponent --dtype bf16 --liger
[ -z "$liger" ] || opponent --dtype bf16 --liger --ckpt
echo "all is as it should be"
