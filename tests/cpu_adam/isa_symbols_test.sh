#!/bin/sh
# A library compiled for one instruction set defines its table and no other symbol that the linker could give to the rest
# of the program.    isa_symbols_test.sh NM LIBRARY TABLE
set -eu
symbols=$("$1" --extern-only --defined-only -P "$2" | awk 'NF > 1 && $1 !~ /^__odr_asan/ { print $1 }')
case "$symbols" in
*[[:space:]]*) echo "$2 defines more than its table:" "$symbols" >&2; exit 1 ;;
*"$3"*) exit 0 ;;
*) echo "$2 does not define $3:" "$symbols" >&2; exit 1 ;;
esac
