# `./dev wheel [FOLDER]`: meson-python builds the wheel, auditwheel puts the libraries that it is linked with into it.
# Sourced by it.
# shellcheck shell=bash disable=SC2154,SC2031  # root: of ../dev, which changes PATH in a subshell of its own

folder=${1:-$root/dist}
bare=$(mktemp -d)
with_tools=(env PATH="$root/.venv/bin:$PATH")
quietly 'building the wheel' "${with_tools[@]}" \
  pip wheel --no-deps --no-build-isolation -C build-dir="$root/build-wheel" -w "$bare" "$root"
quietly 'bundling its libraries' "${with_tools[@]}" auditwheel repair -w "$folder" "$bare"/*.whl
rm -rf "$bare"
say "the wheel is in $folder"
