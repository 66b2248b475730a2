#include "../base/config_fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  orlop::fuzz_config(data, size);
  return 0;
}
