# What `./dev test [SUITE...]` does: one line per suite as it goes, a failing suite's output, and the count at the end.
# Sourced by ../../dev, whose functions and variables it uses, with the suites wanted as arguments: none means all.
# shellcheck shell=bash disable=SC2154  # root, python, packages: of ../../dev

results=$root/build/test-results
run_with=()  # what the programs of a Meson suite are run with
rm -rf "$results"
mkdir -p "$results"
cd "$root"
trap 'exit 130' INT  # also when a tool has answered Ctrl-C with an exit status of its own

suite() {  # suite NAME COMMAND...: the command leaves machine-readable results in $results/NAME/
  local name=$1 folder=$results/$1 start=$SECONDS status; shift
  mkdir -p "$folder"
  if [[ -t 1 ]]; then printf '...     %s\r' "$name"; fi
  set +e
  (set -e; "$@" "$folder") >"$folder/log" 2>&1 </dev/null
  status=$?
  set -e
  echo "$status" >"$folder/status"
  if (( status == 0 )); then printf 'ok      %-10s %4d s\n' "$name" $((SECONDS - start)); return; fi
  printf -- '---- %s ----\n' "$name"
  cat "$folder/log"
  printf 'FAILED  %-10s %4d s\n' "$name" $((SECONDS - start))
}

meson_suite() {  # meson_suite BUILD_FOLDER MESON_TEST_ARGUMENT... RESULTS
  local folder=$root/$1 out=${*: -1} status=0
  rm -f "$folder"/*.xml  # GoogleTest's results of an earlier run
  "${run_with[@]}" meson test -C "$folder" --no-rebuild --print-errorlogs --logbase suite "${@:2:$#-2}" || status=$?
  cp "$folder"/meson-logs/suite.json "$out/meson.json"
  find "$folder" -maxdepth 1 -name '*.xml' -exec cp -t "$out" {} +
  return $status
}

# ---- Suites ---------------------------------------------------------------------------------------------------------

release() {
  build build
  meson_suite build --no-suite python "$1"
}

python_suite() {
  build build liborlop
  use_library
  local files=(tests/dev) out=$1
  [[ -d tests/python ]] && files+=(tests/python)
  "$python" -m pytest -q -rs "${files[@]}" --junitxml="$out/pytest.xml"
}

# In a process of its own: whether there is a deepspeed is decided when transformers is imported.
compat() {
  build build liborlop
  use_library
  "$python" -m pytest -q -rs tests/compat --junitxml="$1/pytest.xml"
}

# A sanitizer build is of the C++ suite alone, and unoptimised: that compiles three times faster. What tries very many
# values in one thread is left to the release build and to fuzzing, and one precision of three to the release build.
sanitized() {  # sanitized FOLDER SANITIZERS RESULTS
  export GTEST_FILTER='-*EveryPattern*:*EveryMaster*:Config.OddValues*:Config.Mutated*:*KeepsTheNewestEvents*:*EngineBits*/fp16:*OptimizerBits*fp16:*StoredParams*/fp*:*ResidenceOf*/fp*:*UnitFlowOf*/fp*:*RenewedUnits*/fp*'
  build "$1" -- --buildtype=plain --optimization=0 -Dcpp_args=-g1 -Db_ndebug=false "-Db_sanitize=$2" -Db_lundef=false \
    -Dbench=disabled -Dcuda=disabled
  meson_suite "$1" --suite unit --suite io --suite simd --timeout-multiplier 6 "$3"
}

address_sanitizer() {
  export ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1
  export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
  sanitized build-asan address,undefined "$1"
}

thread_sanitizer() {
  export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$root/tests/dev/thread_sanitizer.supp
  # gcc 12's TSan cannot place its shadow where the kernel randomises addresses widely.
  if setarch --addr-no-randomize true 2>/dev/null; then run_with=(setarch --addr-no-randomize); fi
  sanitized build-tsan thread "$1"
}

fuzz() {
  CC=clang CXX=clang++ build build-fuzz fuzz-targets -- --buildtype=debugoptimized --optimization=1 \
    -Db_sanitize=address,undefined -Db_lundef=false -Dbench=disabled -Dcuda=disabled -Dcpp_args=-fsanitize=fuzzer-no-link
  meson_suite build-fuzz --suite fuzz "$1"
}

declare -A suites=([release]=release [python]=python_suite [compat]=compat [asan]=address_sanitizer
                   [tsan]=thread_sanitizer [fuzz]=fuzz)
if (( $# == 0 )); then set -- release python compat asan tsan fuzz; fi
for name in "$@"; do
  [[ -v suites[$name] ]] || { say "there is no suite '$name'; there are: release python compat asan tsan fuzz"; exit 2; }
done
for name in "$@"; do suite "$name" "${suites[$name]}"; done

exec "$python" "$root/tests/dev/tally.py" "$results"
