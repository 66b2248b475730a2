# `./dev bench peers`, sourced by it: what the command needs is installed first; Python makes its environment itself.
# shellcheck shell=bash disable=SC2154,SC2031  # root and others: of ../../dev, which changes PATH in a subshell of its own
case " $* " in
  *' --help '* | *' -h '*) ;;
  *)
    install_packages "${python_packages[@]}" "${packages[@]}" >&2
    use_certificates
    build build liborlop >&2 ;;
esac
use_library
export PYTHONPATH=$root/bench:$PYTHONPATH
exec python3 -m peers "$@"
